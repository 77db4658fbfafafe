"""Results for people: tables, charts, a page, progress. Imports ``analysis``, ``stats`` and the layers below them."""
