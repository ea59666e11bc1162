"""Figures of recordings for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from towline.control.recordings.recorder import Recorder


class Figures:
    """Counts the recordings of one control plane."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge("towline_recordings_running", "Sessions that are being recorded.", registry=registry)
        self.recordings = Counter(
            "towline_recordings", "Sessions that should be recorded, by what came of it.", ["state"], registry=registry
        )
        self.bytes = Counter(
            "towline_recording_bytes", "Bytes of recordings: shown, stored, dropped.", ["what"], registry=registry
        )
        self.removed = Counter("towline_recordings_removed", "Recordings removed, by why.", ["why"], registry=registry)

    def ended(self, recorder: Recorder) -> None:
        """Count a recording that has ended."""
        self.running.dec()
        self.recordings.labels(recorder.state).inc()
        self.bytes.labels("shown").inc(recorder.shown_bytes)
        self.bytes.labels("dropped").inc(recorder.dropped_bytes)
        self.bytes.labels("stored").inc(recorder.writer.stored_bytes if recorder.writer is not None else 0)
