#!/bin/bash
# Runs in the image just before it is packed: what the build left behind and no node needs.
set -euo pipefail

rm -rf /var/cache/zypp/* /var/log/zypper.log /var/log/zypp /var/tmp/* /tmp/*
