"""The pods of steps, made from the declaration of the step and the settings. This module sends no requests."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from kubernetes.client import models as k8s

from ims.jobs import shell_name
from ims.recipes.secrets import MOUNTED
from ims.runtime.base import SHELL_STEP, ShellRequest
from ims.settings import Settings, settings
from ims.steps.step import Step
from ims.workspace import Workspace

WORKSPACES = PurePosixPath("/mnt/workspaces")
"""The folder of a pod in which the volume of its job is mounted, under the id of the job."""
INPUT = PurePosixPath("/etc/ims/input/step.json")
"""The file with the input of the step. Its content is an annotation of the pod."""
INPUT_ANNOTATION = "ims.input"
OUTCOME = "/ims-outcome"
"""The file whose content Kubernetes keeps as the last message of the container: see `ims.steps.outcome`."""
CA = "/etc/ims/site-ca.crt"
USER = 1000
SHELL_PORT = 2022
CONTAINER = "step"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""The keys of a Secret with S3 credentials."""
PART_OF = "app.kubernetes.io/part-of"
JOB = "ims.job"
"""The label with the id of the workspace, which begins with the id of the job."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The settings that steps use, except for paths: these differ in a pod.
_SETTINGS = (
    *("recipes_bucket", "images_bucket", "recipe_max_mib", "recipe_max_files", "log_level"),
    *("allowed_networks", "ca_places"),
    *("sandbox_memory_percent", "sandbox_processes", "build_env_size", "disk_reserve_mib"),
    *("squashfs", "squashfs_level", "squashfs_splice", "squashfs_splice_builds"),
    *("squashfs_processors", "squashfs_memory_mib"),
    "image_secrets",
)


def workspace(job_id: str) -> PurePosixPath:
    """The path of the workspace of a job in its pods."""
    return WORKSPACES / job_id


def volume_name(job_id: str) -> str:
    """The name of the PersistentVolumeClaim of a job."""
    return f"ims-{job_id}"


def step_pod(
    step: Step[Any],
    data: dict[str, Any],
    arch: str | None,
    memory_gib: int | None = None,
    s3_secret: str | None = None,
) -> k8s.V1Pod:
    """Returns the pod that runs a step on its input `data`.

    `arch` is the architecture that the node must have, or None if every node will do. `memory_gib` overrides the memory
    limit of the settings. `s3_secret` is the Secret with the S3 credentials of the step; the default is that of the
    service.
    """
    own = settings()
    job_id = PurePosixPath(data["workspace"]).name
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            namespace=own.kubernetes_namespace,
            name=f"{step.name.replace('_', '-')}-{job_id[:8]}",
            labels=labels(job_id, step.name),
            annotations={INPUT_ANNOTATION: json.dumps(data)},
        ),
        spec=k8s.V1PodSpec(
            restart_policy="Never",
            automount_service_account_token=False,
            enable_service_links=False,
            node_selector=_nodes(own, arch),
            tolerations=[k8s.V1Toleration(**item) for item in own.kubernetes_tolerations],
            runtime_class_name=own.kubernetes_runtime_class or None,
            init_containers=[_permission_setter(own, job_id)] if step.begins else [],
            containers=[_container(own, step, job_id, memory_gib, s3_secret or own.kubernetes_s3_secret)],
            volumes=_volumes(own, step, job_id),
            security_context=k8s.V1PodSecurityContext(seccomp_profile=_seccomp(step)),
        ),
    )


def shell_pod(step: Step[Any], request: ShellRequest) -> k8s.V1Pod:
    """Returns the pod of a shell: ready when sshd answers, restarted if it fails, ended when its user ends it."""
    pod = step_pod(step, request.step_input("0.0.0.0", SHELL_PORT), request.arch)  # noqa: S104
    (container,) = pod.spec.containers
    container.ports = [k8s.V1ContainerPort(container_port=SHELL_PORT)]
    container.readiness_probe = k8s.V1Probe(
        tcp_socket=k8s.V1TCPSocketAction(port=SHELL_PORT), period_seconds=1, failure_threshold=1
    )
    pod.metadata.name = shell_name(request.job_id)
    pod.spec.restart_policy = "OnFailure"
    return pod


def shell_service(job_id: str) -> k8s.V1Service:
    """Returns the service that makes a shell reachable."""
    own = settings()
    return k8s.V1Service(
        metadata=k8s.V1ObjectMeta(
            name=shell_name(job_id), labels=labels(job_id, SHELL_STEP), annotations=own.kubernetes_shell_annotations
        ),
        spec=k8s.V1ServiceSpec(
            type=own.kubernetes_shell_service,
            selector=labels(job_id, SHELL_STEP),
            ports=[k8s.V1ServicePort(name="ssh", port=22, target_port=SHELL_PORT)],
        ),
    )


def labels(job_id: str, step_name: str) -> dict[str, str]:
    """The labels of the objects of a job, by which they are found again."""
    return {PART_OF: "ims", JOB: job_id, "ims.step": step_name}


def _nodes(own: Settings, arch: str | None) -> dict[str, str]:
    required = {} if arch is None else {"kubernetes.io/arch": _ARCHITECTURES.get(arch, arch)}
    return {**required, **own.kubernetes_node_selector}


def _seccomp(step: Step[Any]) -> k8s.V1SeccompProfile:
    return k8s.V1SeccompProfile(type="Unconfined" if step.privileged else "RuntimeDefault")


def _container(own: Settings, step: Step[Any], job_id: str, memory_gib: int | None, s3_secret: str) -> k8s.V1Container:
    return k8s.V1Container(
        name=CONTAINER,
        image=own.kubernetes_image,
        image_pull_policy="IfNotPresent",
        args=[step.name, "--input", str(INPUT), "--outcome", OUTCOME, *(["--open"] if step.privileged else [])],
        env=_environment(own, step, job_id, s3_secret),
        resources=_resources(own, step, memory_gib),
        security_context=_security(step),
        termination_message_path=OUTCOME,
        volume_mounts=_mounts(step, job_id),
    )


def _environment(own: Settings, step: Step[Any], job_id: str, s3_secret: str) -> list[k8s.V1EnvVar]:
    values = {f"IMS_{name.upper()}": str(getattr(own, name)) for name in _SETTINGS}
    # The address of S3 is also that of a service, which untrusted code must not reach.
    values |= {"IMS_S3_ENDPOINT_URL": own.endpoint_url}
    # What programs in a sandbox cannot change: caches and claims are there.
    values |= {"IMS_HOME": str(Workspace(Path(workspace(job_id))).notes), "IMS_CA_CERTIFICATE": CA, "HOME": "/tmp"}  # noqa: S108
    values |= {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
    variables = [k8s.V1EnvVar(name=name, value=value) for name, value in values.items()]
    if step.s3:
        variables.append(k8s.V1EnvVar(name="AWS_ENDPOINT_URL", value=own.endpoint_url))
        variables.append(k8s.V1EnvVar(name="AWS_CA_BUNDLE", value=CA))
        variables += [_secret(s3_secret, name) for name in S3_KEYS]
    return variables


def _secret(secret: str, name: str) -> k8s.V1EnvVar:
    # Only temporary credentials have a token.
    source = k8s.V1SecretKeySelector(name=secret, key=name, optional=name == "AWS_SESSION_TOKEN" or None)
    return k8s.V1EnvVar(name=name, value_from=k8s.V1EnvVarSource(secret_key_ref=source))


def _resources(own: Settings, step: Step[Any], memory_gib: int | None) -> k8s.V1ResourceRequirements:
    configured = own.kubernetes_resources.get(step.name, {})
    limits = dict(configured.get("limits", {})) | ({"memory": f"{memory_gib}Gi"} if memory_gib is not None else {})
    return k8s.V1ResourceRequirements(requests=configured.get("requests"), limits=limits or None)


def _security(step: Step[Any]) -> k8s.V1SecurityContext:
    if step.privileged:
        return k8s.V1SecurityContext(privileged=True, run_as_user=0, run_as_group=0)
    return k8s.V1SecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        run_as_group=USER,
        read_only_root_filesystem=True,
        allow_privilege_escalation=False,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )


def _permission_setter(own: Settings, job_id: str) -> k8s.V1Container:
    """An init container that lets an ordinary user write to a new volume. Privileged steps open it themselves.

    The pod's fsGroup would do that too, but it would also change the groups of all files of an image root.
    """
    return k8s.V1Container(
        name="open-workspace",
        image=own.kubernetes_image,
        image_pull_policy="IfNotPresent",
        command=["chmod", "1777", str(workspace(job_id))],
        security_context=k8s.V1SecurityContext(
            run_as_user=0,
            read_only_root_filesystem=True,
            allow_privilege_escalation=False,
            capabilities=k8s.V1Capabilities(drop=["ALL"], add=["FOWNER"]),
        ),
        volume_mounts=[k8s.V1VolumeMount(name="workspace", mount_path=str(workspace(job_id)))],
    )


def _mounts(step: Step[Any], job_id: str) -> list[k8s.V1VolumeMount]:
    secrets = [k8s.V1VolumeMount(name="recipe-secrets", mount_path=str(MOUNTED), read_only=True)]
    return [
        *(secrets if step.renders else []),
        k8s.V1VolumeMount(name="workspace", mount_path=str(workspace(job_id))),
        k8s.V1VolumeMount(name="tmp", mount_path="/tmp"),  # noqa: S108
        k8s.V1VolumeMount(name="tmp", mount_path="/var/tmp"),  # noqa: S108
        k8s.V1VolumeMount(name="site-ca", mount_path=CA, sub_path="ca.crt", read_only=True),
        k8s.V1VolumeMount(name="input", mount_path=str(INPUT.parent), read_only=True),
    ]


def _volumes(own: Settings, step: Step[Any], job_id: str) -> list[k8s.V1Volume]:
    recipe_secrets = k8s.V1SecretVolumeSource(secret_name=own.kubernetes_recipe_secret, optional=True)
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=volume_name(job_id))
    annotation = k8s.V1ObjectFieldSelector(field_path=f"metadata.annotations['{INPUT_ANNOTATION}']")
    step_input = k8s.V1DownwardAPIVolumeFile(path=INPUT.name, field_ref=annotation)
    return [
        *([k8s.V1Volume(name="recipe-secrets", secret=recipe_secrets)] if step.renders else []),
        k8s.V1Volume(name="workspace", persistent_volume_claim=claim),
        k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource()),
        k8s.V1Volume(name="site-ca", config_map=k8s.V1ConfigMapVolumeSource(name=own.kubernetes_ca_config_map)),
        k8s.V1Volume(name="input", downward_api=k8s.V1DownwardAPIVolumeSource(items=[step_input])),
    ]
