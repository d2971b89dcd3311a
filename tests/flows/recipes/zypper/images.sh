#!/bin/bash
# Runs in the image just before it is packed.
set -eu
echo images.sh > /etc/flow-test-images
