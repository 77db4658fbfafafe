"""Histories: the sessions of many days, in a folder or on a branch. Imports `store` and what is below it."""
