"""What people see of headrace: spans, metrics, logs; and the names of all of them."""
