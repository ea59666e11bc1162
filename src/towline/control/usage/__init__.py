"""What nodes, namespaces and pods of Kubernetes clusters used in the last day: taken, packed, kept, shown."""
