"""The compiled Kubernetes servers: one program that acts as the component it is called as."""

from pathlib import Path

from tests.testbed import golang, paths

VERSION = "1.36.3"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def build() -> Path:
    """Compile the servers: three to five minutes on two cores the first time. Returns: the folder of their names."""
    major, minor, _ = VERSION.split(".")
    stamp = " ".join(
        f"-X {package}.gitVersion=v{VERSION} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        for package in VERSION_PACKAGES
    )
    program = golang.build("kubernetes", paths.SOURCE / "kubernetes", ".", ldflags=f"-s -w {stamp}")
    for component in COMPONENTS:
        link = program.with_name(component)
        if not link.is_symlink():
            link.symlink_to(program.name)
    return program.parent
