#!/bin/bash
# Runs in the image after all packages are installed.
set -euo pipefail

# The build sets INITRD=No so that packages do not make the initrd. It is made once, here.
kernel=$(basename /lib/modules/*)
dracut --force --kver "$kernel" "/boot/initrd.img-$kernel"
/etc/kernel/postinst.d/zz-boot-links "$kernel"

# usrmerge has run and is no longer needed. perl (50 MB) is only there for usrmerge. kiwi's uninstall does not find them.
# shellcheck disable=SC2046  # package names are single words
dpkg --purge usrmerge lib{file-find-rule,number-compare,text-glob}-perl perl \
    $(dpkg-query --show --showformat '${Package}\n' 'libperl5*' 'perl-modules-5*')

# Packages that were unpacked before post_bootstrap.sh ran include their manuals.
find /usr/share/{info,locale,man} -mindepth 1 -delete
find /usr/share/doc ! -name copyright ! -type d -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete

# Logins need a key: the root password is locked. Host keys are generated at the first boot, see ssh.service.d.
passwd --lock root
rm -f /etc/ssh/ssh_host_*
systemctl enable ssh.service systemd-networkd.service systemd-resolved.service serial-getty@ttyS0.service

# Each machine generates its own identity.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed
