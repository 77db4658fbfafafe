"""``bench.lock``: the counted work of cases in a file that is committed and compared, like a lockfile of packages."""
