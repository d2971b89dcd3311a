"""The temporary S3 credentials of a step, as a Secret that its pod refers to."""

from __future__ import annotations

from collections.abc import Mapping

from kubernetes import client
from kubernetes.client import models as k8s

from ims.errors import UnavailableError
from ims.runtime.kubernetes import pods
from ims.settings import settings


def store_credentials(core: client.CoreV1Api, job_id: str, step_name: str, variables: Mapping[str, str]) -> str:
    """Create a Secret for a step; returns its name.

    `variables` has at least the keys of `pods.S3_KEYS`. The volume of the job owns the Secret, so the cluster removes
    both together. That way, the service needs no right to read or delete Secrets. Raises UnavailableError if the job
    has no volume.
    """
    namespace = settings().kubernetes_namespace
    claims = core.list_namespaced_persistent_volume_claim(namespace, label_selector=f"{pods.JOB}={job_id}").items
    if not claims:
        raise UnavailableError(f"the volume {pods.volume_name(job_id)} is gone", "Start the job again")
    owner = k8s.V1OwnerReference(
        api_version="v1",
        kind="PersistentVolumeClaim",
        name=claims[0].metadata.name,
        uid=claims[0].metadata.uid,
    )
    metadata = k8s.V1ObjectMeta(
        generate_name=f"{pods.volume_name(job_id)}-s3-",
        labels=pods.labels(job_id, step_name),
        owner_references=[owner],
    )
    secret = k8s.V1Secret(metadata=metadata, string_data={key: variables[key] for key in pods.S3_KEYS}, immutable=True)
    created: k8s.V1Secret = core.create_namespaced_secret(namespace, secret)
    return str(created.metadata.name)
