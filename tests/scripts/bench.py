NAME = "a file of the script's own"
