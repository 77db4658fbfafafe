"""From rows to answers, with pandas and scipy. No torch."""
