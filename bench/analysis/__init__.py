"""From rows to answers, with pandas. Imports ``stats``, ``store`` and what is below them."""
