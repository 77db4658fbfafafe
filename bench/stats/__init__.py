"""From numbers to verdicts, without files and without data frames. Imports ``store`` for columns,
and what is below it."""
