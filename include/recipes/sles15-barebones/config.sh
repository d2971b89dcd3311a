#!/bin/bash
# Runs in the image, after its packages are installed: services, then the files the image boots with.
set -euo pipefail

enable_unit() {
    # A unit that a package no longer ships is worth a line in the log, not a failed build.
    systemctl --root=/ enable "$1" || echo "config.sh: $1 was not enabled"
}

if command -v systemctl > /dev/null; then
    for unit in sshd.service chronyd.service rsyslog.service wicked.service; do
        enable_unit "$unit"
    done
    systemctl --root=/ set-default multi-user.target
fi

# Every node booted from this image needs an identity of its own, so none is kept in it.
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/lib/dbus/machine-id
: > /etc/machine-id

# The newest kernel, under the names the packaging step looks for.
# shellcheck disable=SC2012  # the names are versions of kernels
kernel=$(ls /lib/modules 2> /dev/null | sort -V | tail -n 1 || true)
if [ -z "$kernel" ]; then
    echo "config.sh: no kernel is installed: /lib/modules is empty" >&2
    exit 1
fi
[ -e "/boot/vmlinuz-$kernel" ] || cp "/lib/modules/$kernel/vmlinuz" "/boot/vmlinuz-$kernel"
ln -sf "vmlinuz-$kernel" /boot/vmlinuz

# One initrd for all hardware; zstd -3 costs a fraction of gzip's time and is no larger.
dracut --force --no-hostonly --no-hostonly-cmdline --compress "zstd -3 -T0 -q" \
    "/boot/initrd-$kernel" "$kernel"
ln -sf "initrd-$kernel" /boot/initrd
