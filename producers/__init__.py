"""Control: plan a corpus, publish, follow, reconcile, finish, verify, report."""
