#!/bin/bash
# Runs in the image just before it is packed: removes traces of the build.
set -euo pipefail

rm -rf /var/cache/zypp/* /var/log/zypper.log /var/log/zypp /var/tmp/* /tmp/*
