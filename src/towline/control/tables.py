"""Imports every feature's tables, so that the metadata is whole for migrations, backups and tests. One line each."""

import towline.control.access.models
import towline.control.agents.models
import towline.control.alerts.models
import towline.control.audit.models
import towline.control.bundles.models
import towline.control.certificates.models
import towline.control.clusters.models
import towline.control.commands.models
import towline.control.deployments.models
import towline.control.domains.models
import towline.control.jobs.models
import towline.control.kubernetes.models
import towline.control.protocols.models
import towline.control.protocols.pipeops.rest_models
import towline.control.recordings.models
import towline.control.registries.models
import towline.control.routes.models
import towline.control.sealing.models
import towline.control.usage.models  # noqa: F401
from towline.control.db import metadata

__all__ = ["metadata"]
