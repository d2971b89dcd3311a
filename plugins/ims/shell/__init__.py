"""A shell in an image over SSH: sshd outside, bubblewrap around every session.

    surroundings    what the step covers of the machine before anything else
    sshd            host key, configuration, fingerprint, the command to log in
    tools           what every session finds in /run/.ims: scp, sftp, rsync, whatever the image has
    jail            what a session sees and may do, jailed or not
    traces          what all this leaves in an image, removed before packing

Everything below the image root belongs to its user, who can put a link wherever a path of ours leads. So all that is
mounted below it is mounted once, before the first session.
"""
