"""From numbers to verdicts, without files. Imports ``store`` for columns, and what is below it."""
