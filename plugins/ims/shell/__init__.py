"""A shell in an image over SSH: sshd runs outside of the image, bubblewrap confines every session.

    host_mounts    replaces parts of the host's file system for the step, before anything else runs
    sshd           host key, configuration, fingerprint and the command that logs in
    tools          programs that every session finds in /run/.ims (scp, sftp, rsync), whatever the image has
    jail           what a session sees and may do, jailed or not
    sessions       how sshd starts a session, and the processes that all sessions share
    markers        how the user of a shell ends it
    cleanup        removes what all this leaves in an image, before the image is packed

Namespaces, capabilities and the seccomp filter of sessions are those of `ims.sandbox`.

The user of a shell controls everything below the image root and can put a link at any path that we use. For this
reason, everything that is mounted below the image root is mounted once, before the first session starts.
"""
