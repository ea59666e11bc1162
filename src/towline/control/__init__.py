"""The control plane, one folder per feature; `app` wires everything."""
