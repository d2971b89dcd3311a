"""A shell in an image over SSH: sshd runs outside of the image, all sessions in one sandbox.

    host_mounts    replaces parts of the host's file system for the step, before anything else runs
    sshd           host key, configuration, fingerprint and the command that logs in
    tools          programs that every session finds in /run/.ims (scp, sftp, rsync), whatever the image has
    jail           what sessions see, jailed or not, and the program that makes their sandbox
    mounts         the mounts of that sandbox
    sessions       the sandbox that all sessions share, and the command with which sshd starts one
    markers        how the user of a shell ends it
    cleanup        removes what all this leaves in an image, before the image is packed

Namespaces, capabilities and the seccomp filter of sessions are those of `ims.sandbox`.

The user of a shell controls everything below the image root and can put a link at any path that we use. For this
reason, everything that is mounted below the image root is mounted once, before the first session starts.
"""
