"""Access control: keys, scopes, quotas, and limits on every request."""
