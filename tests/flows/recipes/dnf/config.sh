#!/bin/bash
# Runs in the image after its packages are installed.
set -eu
echo config.sh > /etc/flow-test-config
