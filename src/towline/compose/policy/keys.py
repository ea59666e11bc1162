"""The allow-lists: every key of a Compose file, and the lowest level that may use it.

A key that is in none of these lists is refused at every level. Source: the Compose Specification's schema, as Compose
2.40 carries it.
"""

from collections.abc import Mapping

from towline.compose.policy.levels import Level

_R, _S, _P = Level.RESTRICTED, Level.STANDARD, Level.PRIVILEGED

Keys = Mapping[str, Level]


def _keys(**levels: str) -> Keys:
    return {key: Level(level) for level, words in levels.items() for key in words.split()}


TOP: Keys = _keys(
    restricted="version name services networks volumes secrets configs include",
    privileged="models",
)
SERVICE: Keys = _keys(
    restricted="""
        annotations attach build cap_add cap_drop command configs cpu_count cpu_percent cpu_period cpu_quota cpu_shares
        cpus cpuset depends_on deploy develop dns dns_opt dns_search domainname entrypoint env_file environment expose
        extends extra_hosts group_add healthcheck hostname image init label_file labels links logging mac_address
        mem_limit mem_reservation mem_swappiness memswap_limit network_mode networks pids_limit platform ports profiles
        pull_policy read_only restart scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal
        storage_opt tmpfs tty ulimits user volumes working_dir
    """,
    standard="""
        blkio_config cgroup container_name external_links ipc isolation oom_kill_disable oom_score_adj pid post_start
        pre_stop pull_refresh_after sysctls uts volumes_from
    """,
    privileged="""
        cgroup_parent cpu_rt_period cpu_rt_runtime credential_spec device_cgroup_rules devices gpus models privileged
        runtime use_api_socket userns_mode
    """,
)
# Granted by `Policy.devices` below the privileged level, too.
DEVICE_KEYS = frozenset({"devices", "gpus", "runtime", "device_cgroup_rules"})
# `provider` runs a program of the host in the agent's name.
NEVER = frozenset({"provider"})

BUILD: Keys = _keys(
    restricted="""
        additional_contexts args cache_from cache_to context dockerfile dockerfile_inline extra_hosts isolation labels
        network no_cache no_cache_filter platforms provenance pull sbom secrets shm_size target ulimits
    """,
    standard="tags",
    privileged="entitlements privileged ssh",
)
DEPLOY: Keys = _keys(
    restricted="endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config"
)
RESERVATION: Keys = _keys(restricted="cpus memory pids generic_resources", privileged="devices")
MOUNT: Keys = _keys(restricted="bind consistency image read_only source target tmpfs type volume")
BIND_OPTIONS: Keys = _keys(restricted="create_host_path propagation recursive selinux")
SERVICE_NETWORK: Keys = _keys(
    restricted="aliases gw_priority interface_name ipv4_address ipv6_address link_local_ips mac_address priority",
    privileged="driver_opts",
)
GRANT: Keys = _keys(restricted="gid mode source target uid")
HOOK: Keys = _keys(restricted="command environment user working_dir", privileged="privileged")
VOLUME: Keys = _keys(restricted="driver driver_opts external labels name")
NETWORK: Keys = _keys(
    restricted="attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name"
)
SECRET: Keys = _keys(restricted="environment external file labels name")
CONFIG: Keys = _keys(restricted="content environment external file labels name")
INCLUDE: Keys = _keys(restricted="env_file path project_directory")
EXTENDS: Keys = _keys(restricted="file service")
LOGGING: Keys = _keys(restricted="driver options")
