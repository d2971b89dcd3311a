"""How an image root is built: kiwi and its environment, cached package roots, and what decides an image.

kiwi            runs kiwi-ng on one part of a recipe
host            what kiwi and the package managers see of the host
logins          removes the logins of repositories that a build stored
package_cache   keeps downloaded packages for the next build
package_root    keeps the root in which a recipe's packages are installed for the next build
inputs          collects the build inputs: everything that decides an image
squashfs        packs an image root
"""
