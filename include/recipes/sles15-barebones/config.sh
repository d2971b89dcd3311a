#!/bin/bash
# Runs in the image after its packages are installed: enables services and prepares the boot files.
set -euo pipefail

enable_unit() {
    # A missing unit does not fail the build, because a package may stop shipping it.
    systemctl --root=/ enable "$1" || echo "config.sh: $1 was not enabled"
}

if command -v systemctl > /dev/null; then
    for unit in sshd.service chronyd.service rsyslog.service wicked.service; do
        enable_unit "$unit"
    done
    systemctl --root=/ set-default multi-user.target
fi

# Each node generates its own identity.
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/lib/dbus/machine-id
: > /etc/machine-id

# Link the newest kernel at the path where the packaging step looks for it.
# shellcheck disable=SC2012  # the names are versions of kernels
kernel=$(ls /lib/modules 2> /dev/null | sort -V | tail -n 1 || true)
if [ -z "$kernel" ]; then
    echo "config.sh: no kernel is installed: /lib/modules is empty" >&2
    exit 1
fi
[ -e "/boot/vmlinuz-$kernel" ] || cp "/lib/modules/$kernel/vmlinuz" "/boot/vmlinuz-$kernel"
ln -sf "vmlinuz-$kernel" /boot/vmlinuz

# Make one initrd for all hardware. zstd -3 is much faster than gzip, and its result is no larger.
dracut --force --no-hostonly --no-hostonly-cmdline --compress "zstd -3 -T0 -q" \
    "/boot/initrd-$kernel" "$kernel"
ln -sf "initrd-$kernel" /boot/initrd
