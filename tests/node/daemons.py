"""The command lines and the configuration of the daemons of a node."""

from __future__ import annotations

import json
from secrets import token_hex
from typing import Any

from tests.flows.rpm_repository import ServerCertificate
from tests.node import ADDRESS, NAME, PROGRAMS, STATE
from tests.node.images import PAUSE

API = f"https://{ADDRESS}:6443"
ETCD = "http://127.0.0.1:2379"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/24"
CONTAINERD = "/run/containerd.sock"
ACCOUNTS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NAME}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
}
_CONTAINERD = """\
version = 2
root = "{state}/containerd"
state = "/run/containerd"
[grpc]
  address = "{address}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/cni"
"""
_NETWORK: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def write_configuration(certificate: ServerCertificate) -> None:
    """Write the configuration files. The API server and the kubelet share one certificate."""
    tokens = {account: token_hex(16) for account in ACCOUNTS}
    lines = [f'{tokens[account]},{user},{account},"{group}"\n' for account, (user, group) in ACCOUNTS.items()]
    (STATE / "tokens.csv").write_text("".join(lines))
    for account, token in tokens.items():
        _write(f"{account}.conf", _kubeconfig(token))
    containerd = _CONTAINERD.format(state=STATE, address=CONTAINERD, pause=PAUSE)
    (STATE / "containerd.toml").write_text(containerd)
    (STATE / "cni").mkdir()
    _write("cni/pods.conflist", _NETWORK)
    (STATE / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    _write("kubelet.yaml", _kubelet(certificate))
    _write("proxy.yaml", _proxy())


def commands(certificate: ServerCertificate) -> dict[str, list[str]]:
    """The command line of each daemon."""
    key, ca = f"{certificate.key}", STATE / "pki" / "ca.pem"
    return {
        "etcd": ["etcd", f"--data-dir={STATE}/etcd", f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}"],
        "containerd": ["containerd", f"--config={STATE}/containerd.toml"],
        "kube-apiserver": _options(
            "kube-apiserver",
            etcd_servers=ETCD,
            bind_address="0.0.0.0",  # noqa: S104  (in a network of its own)
            advertise_address=ADDRESS,
            tls_cert_file=certificate.certificate,
            tls_private_key_file=key,
            client_ca_file=ca,
            token_auth_file=STATE / "tokens.csv",
            kubelet_certificate_authority=ca,
            kubelet_client_certificate=certificate.certificate,
            kubelet_client_key=key,
            kubelet_preferred_address_types="InternalIP",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=certificate.certificate,
            service_account_signing_key_file=key,
            service_cluster_ip_range=SERVICES,
            authorization_mode="Node,RBAC",
            enable_admission_plugins="NodeRestriction",
            allow_privileged="true",
            cert_dir=STATE / "pki",
        ),
        "kube-controller-manager": _options(
            "kube-controller-manager",
            kubeconfig=STATE / "controllers.conf",
            service_account_private_key_file=key,
            root_ca_file=ca,
            use_service_account_credentials="true",
            leader_elect="false",
            port=0,
        ),
        "kube-scheduler": _options("kube-scheduler", kubeconfig=STATE / "scheduler.conf", leader_elect="false", port=0),
        "kubelet": _options(
            "kubelet",
            config=STATE / "kubelet.yaml",
            kubeconfig=STATE / "kubelet.conf",
            root_dir=STATE / "kubelet",
            hostname_override=NAME,
            node_ip=ADDRESS,
            container_runtime="remote",
            container_runtime_endpoint=f"unix://{CONTAINERD}",
            pod_infra_container_image=PAUSE,
        ),
        "kube-proxy": _options("kube-proxy", config=STATE / "proxy.yaml"),
    }


def _options(program: str, **options: object) -> list[str]:
    return [str(PROGRAMS / program), *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())]


def _write(name: str, content: object) -> None:
    """Write a file as JSON, which is also YAML."""
    (STATE / name).write_text(json.dumps(content))


def _kubeconfig(token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": API, "certificate-authority": str(STATE / "pki" / "ca.pem")}}
        ],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }


def _kubelet(certificate: ServerCertificate) -> dict[str, Any]:
    """Requires nothing that a machine in a container lacks: limits, no swap, free disk space."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "tlsCertFile": str(certificate.certificate),
        "tlsPrivateKeyFile": str(certificate.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(STATE / "pki" / "ca.pem")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "oomScoreAdj": 0,
        "failSwapOn": False,
        "resolvConf": str(STATE / "resolv.conf"),
        "volumePluginDir": str(STATE / "plugins"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _proxy() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NAME,
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(STATE / "proxy.conf")},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
