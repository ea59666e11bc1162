"""Pure Kubernetes rules: path policy, access tuples, identities, upstream heads. No sockets."""
