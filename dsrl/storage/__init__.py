"""What a run keeps on the disk: SQLite, files, and everything that is read back from them."""
