"""What people see: tables, charts, a page, progress. Imports ``analysis``, ``stats`` and what is below them."""
