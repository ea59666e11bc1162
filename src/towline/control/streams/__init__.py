"""Streams that people open through a cluster's tunnel: forward, exec, logs, and the events of the pages."""
