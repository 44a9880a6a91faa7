"""What lies between a request and a paid reply: the ledger, its reply store, the budget, limits, batches."""
