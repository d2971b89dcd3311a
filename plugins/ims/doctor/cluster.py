"""Checks of the cluster, where the steps of the runtime `kubernetes` run."""

from __future__ import annotations

from kubernetes import client
from kubernetes.client import models as k8s

from ims.doctor.finding import Finding, missing, ok, warning
from ims.errors import ConfigurationError
from ims.runtime.kubernetes.cluster import cluster_errors, core_api
from ims.settings import Settings

SECONDS = 10
NEEDED = (
    *(("pods", verb) for verb in ("create", "get", "list", "watch", "delete", "deletecollection")),
    *(("persistentvolumeclaims", verb) for verb in ("create", "list", "deletecollection")),
    *(("services", verb) for verb in ("create", "get", "list", "delete")),
    ("secrets", "create"),
)
"""What jobs need in their namespace; deploy/rbac.yaml grants it."""
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def version(_settings: Settings) -> Finding:
    """Whether the API server answers."""
    with cluster_errors():
        found = client.VersionApi(core_api().api_client).get_code(_request_timeout=SECONDS)
    return ok(f"{found.git_version} ({found.platform})")


def storage_class(settings: Settings) -> Finding:
    """Whether the volumes of jobs have a storage class."""
    wanted = settings.kubernetes_storage_class
    try:
        with cluster_errors():
            items = client.StorageV1Api(core_api().api_client).list_storage_class(_request_timeout=SECONDS).items
    except ConfigurationError:
        return warning(f"{wanted or 'the default'}, which the service may not look up", "kubectl get storageclass")
    names = [item.metadata.name for item in items]
    defaults = [item.metadata.name for item in items if _is_default(item)]
    if wanted is not None and wanted not in names:
        return missing(f"there is no {wanted}", f"Set IMS_KUBERNETES_STORAGE_CLASS to one of {', '.join(names)}")
    if wanted is None and not defaults:
        return missing("the cluster has no default", "Set IMS_KUBERNETES_STORAGE_CLASS")
    return ok(wanted or f"{defaults[0]}, the default")


def rights(settings: Settings) -> Finding:
    """Whether the service may create and remove what jobs need."""
    authorization = client.AuthorizationV1Api(core_api().api_client)
    with cluster_errors():
        lacking = [f"{verb} {kind}" for kind, verb in NEEDED if not _may(authorization, settings, kind, verb)]
    if lacking:
        return missing(
            f"may not {', '.join(lacking)} in {settings.kubernetes_namespace}", "kubectl apply -f deploy/rbac.yaml"
        )
    return ok(f"pods, volumes, services and Secrets in {settings.kubernetes_namespace}")


def _may(authorization: client.AuthorizationV1Api, settings: Settings, kind: str, verb: str) -> bool:
    attributes = k8s.V1ResourceAttributes(namespace=settings.kubernetes_namespace, resource=kind, verb=verb)
    review = k8s.V1SelfSubjectAccessReview(spec=k8s.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    answer = authorization.create_self_subject_access_review(review, _request_timeout=SECONDS)
    return bool(answer.status.allowed)


def _is_default(item: k8s.V1StorageClass) -> bool:
    return (item.metadata.annotations or {}).get(DEFAULT_CLASS) == "true"
