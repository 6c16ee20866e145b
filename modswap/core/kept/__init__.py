"""Records that outlive a run: outcome, ledger, receipt, lock."""
