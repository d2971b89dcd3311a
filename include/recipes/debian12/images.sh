#!/bin/bash
# Runs in the image just before it is packed.
set -euo pipefail

# kiwi removes the build host's resolv.conf after config.sh, so the link is made here.
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf

# Remove traces of the build.
find /run /tmp /var/cache/apt /var/lib/apt/lists /var/tmp -xdev -mindepth 1 -delete
find /var/log -type f -delete
rm -f /etc/.*.bak /etc/{group,gshadow,passwd,shadow,subgid,subuid}- /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old

cat > /etc/ims-image-release <<EOF
NAME=${kiwi_iname:-unknown}
VERSION=${kiwi_iversion:-unknown}
KERNEL=$(readlink /boot/vmlinuz | sed 's/^vmlinuz-//')
PACKAGES=$(dpkg-query --show | wc -l)
EOF
