#!/bin/bash
# Runs in the image after all packages are installed.
set -euo pipefail

# The initrd is made once, here: the build sets INITRD=No so that packages do not make it again and again.
kernel=$(basename /lib/modules/*)
dracut --force --kver "$kernel" "/boot/initrd.img-$kernel"
/etc/kernel/postinst.d/zz-boot-links "$kernel"

# usrmerge has done its work, and with it goes perl (50 MB). kiwi's own uninstall finds nothing installed.
# shellcheck disable=SC2046  # package names are single words
dpkg --purge usrmerge lib{file-find-rule,number-compare,text-glob}-perl perl \
    $(dpkg-query --show --showformat '${Package}\n' 'libperl5*' 'perl-modules-5*')

# The packages unpacked before post_bootstrap.sh brought their manuals along.
find /usr/share/{info,locale,man} -mindepth 1 -delete
find /usr/share/doc ! -name copyright ! -type d -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete

# Log in with a key only: the root password is locked, the host keys are made at the first start (ssh.service.d).
passwd --lock root
rm -f /etc/ssh/ssh_host_*
systemctl enable ssh.service systemd-networkd.service systemd-resolved.service serial-getty@ttyS0.service

# Every machine gets its own identity.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed
