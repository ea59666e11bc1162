"""What the agent does with a stream that the control plane opens: dial, run, read logs, take a bundle, measure."""
