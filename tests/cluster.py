"""Prepares the cluster of KUBECONFIG for a test run, as an administrator does who follows docs/deploy.md.

Tests use it if IMS_RUNTIME is kubernetes.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from kubernetes import client, config
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError

from ims.settings import Settings
from ims.stack.credentials import Credentials
from ims.stack.environment import s3_environment
from tests.node import STORAGE_CLASS

DEPLOY = Path(__file__).parents[1] / "deploy"
ACCOUNT = "airflow-worker"


@contextmanager
def prepared_cluster(settings: Settings, credentials: Credentials) -> Iterator[None]:
    """Create a namespace with everything that steps need, and delete it at the end.

    Serves volumes unless the settings name a storage class of the cluster. The service has the rights of
    deploy/rbac.yaml there, and no others.
    """
    api, namespace = config.new_client_from_config(os.environ["KUBECONFIG"]), settings.kubernetes_namespace
    core, dynamic = client.CoreV1Api(api), DynamicClient(api)
    for name in ("namespace", "rbac", "network"):
        for document in yaml.safe_load_all(
            (DEPLOY / f"{name}.yaml").read_text().replace("namespace: ims", f"namespace: {namespace}")
        ):
            if name == "namespace":
                document["metadata"]["name"] = namespace
            kind = dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
            dynamic.server_side_apply(kind, body=document, field_manager="kubectl")
    assert settings.kubernetes_config is not None
    write_config(core, namespace, settings.kubernetes_config)
    environment = s3_environment(settings, credentials)
    keys = {name: environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    secret = k8s.V1Secret(metadata=k8s.V1ObjectMeta(name=settings.kubernetes_s3_secret), string_data=keys)
    core.create_namespaced_secret(namespace, secret)
    certificate = {"ca.crt": settings.ca_certificate_path.read_text()}
    ca = k8s.V1ConfigMap(metadata=k8s.V1ObjectMeta(name=settings.kubernetes_ca_config_map), data=certificate)
    core.create_namespaced_config_map(namespace, ca)
    volumes = Volumes(core, namespace, settings.home / "volumes")
    if settings.kubernetes_storage_class == STORAGE_CLASS:
        volumes.start()
    try:
        yield
    finally:
        core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)
        core.delete_namespace(namespace)
        volumes.stop()


def write_config(core: client.CoreV1Api, namespace: str, path: Path) -> None:
    """Write a kubeconfig with the service account of the workers."""
    while not (account := core.read_namespaced_service_account(ACCOUNT, namespace)).secrets:
        time.sleep(0.2)
    token = base64.b64decode(core.read_namespaced_secret(account.secrets[0].name, namespace).data["token"]).decode()
    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    admin["users"] = [{"name": user["name"], "user": {"token": token}} for user in admin["users"]]
    path.write_text(yaml.safe_dump(admin))
    path.chmod(0o600)


class Volumes(threading.Thread):
    """Creates a volume for every claim, and removes it with the claim, like the provisioner of a real cluster.

    A volume is a file system on this machine. It has the size that the claim requests.
    """

    def __init__(self, core: client.CoreV1Api, namespace: str, folder: Path) -> None:
        super().__init__(daemon=True)
        self._core, self._namespace, self._folder = core, namespace, folder
        self._ended = threading.Event()

    def run(self) -> None:
        """Serve claims every half second."""
        while not self._ended.wait(0.5):
            self._serve()

    def stop(self) -> None:
        """Stop the thread and remove all volumes."""
        self._ended.set()
        if self.is_alive():
            self.join()
        for volume in self._volumes():
            self._remove(volume)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        try:
            for claim in self._core.list_namespaced_persistent_volume_claim(self._namespace).items:
                if claim.status.phase == "Pending":
                    self._make(claim)
            for volume in self._volumes():
                if volume.status.phase == "Released":
                    self._remove(volume)
        except ApiException as error:
            if error.status not in (404, 409):
                raise
        except HTTPError:  # a test has stopped the API server
            return

    def _remove(self, volume: k8s.V1PersistentVolume) -> None:
        self._core.delete_persistent_volume(volume.metadata.name)
        folder = Path(volume.spec.host_path.path)
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
        folder.with_suffix(".ext4").unlink()

    def _make(self, claim: k8s.V1PersistentVolumeClaim) -> None:
        name = f"{self._namespace}-{claim.metadata.uid}"
        folder, size = self._folder / name, claim.spec.resources.requests["storage"]
        if not folder.exists():
            folder.mkdir(parents=True)
            file = folder.with_suffix(".ext4")
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", file, size.replace("Gi", "G")], check=True)
            subprocess.run(["mount", "-o", "loop", file, folder], check=True)
        reference = k8s.V1ObjectReference(
            api_version="v1",
            kind="PersistentVolumeClaim",
            namespace=self._namespace,
            name=claim.metadata.name,
            uid=claim.metadata.uid,
        )
        spec = k8s.V1PersistentVolumeSpec(
            access_modes=claim.spec.access_modes,
            capacity={"storage": size},
            storage_class_name=claim.spec.storage_class_name,
            persistent_volume_reclaim_policy="Retain",
            claim_ref=reference,
            host_path=k8s.V1HostPathVolumeSource(path=str(folder)),
        )
        metadata = k8s.V1ObjectMeta(name=name, labels={"ims-test": self._namespace})
        self._core.create_persistent_volume(k8s.V1PersistentVolume(metadata=metadata, spec=spec))

    def _volumes(self) -> list[k8s.V1PersistentVolume]:
        return list(self._core.list_persistent_volume(label_selector=f"ims-test={self._namespace}").items)
