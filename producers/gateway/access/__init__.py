"""Who may do what: keys, scopes, quota, and limits of every request."""
