"""Checks of owner, mode and links before a file is read or run: could another user have created or replaced the file?

The user of this process and root are trusted. Any other user who may write to a directory can replace a file in it,
unless the directory is sticky and the file belongs to a trusted user. Systems without such users (Windows) are not
checked.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

JUDGED = hasattr(os, "geteuid")
_ROOT = 0
_UNMAPPED = 65534
"""The owner that a user namespace shows for a file whose owner has no number in this namespace."""


class Untrusted(Exception):
    """Another user may have created or changed a file or directory. `hint`: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def private_directory(path: str) -> int:
    """Open a directory that only this user can write to; creates a missing one. Raises Untrusted or OSError."""
    make_directories(path)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if os.path.lexists(path) and not _is_directory(path):
            raise Untrusted(_no_directory(path), f"if nothing needs it: rm {quoted(path)}") from error
        raise
    try:
        _refuse_shared(path, os.fstat(directory))
        check_parents(path)
    except Untrusted:
        os.close(directory)
        raise
    return directory


def make_directories(path: str) -> None:
    """Create a directory and the missing directories above it, each private from the start."""
    missing = []
    while path and not os.path.lexists(path):  # the loop reaches "" for a relative path
        missing.append(path)
        path = os.path.dirname(path)
    for made in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(made, stat.S_IRWXU)


def check_private(path: str) -> None:
    """Raise Untrusted unless `private_directory` accepts this directory."""
    os.close(private_directory(path))


def refusal(path: str) -> Untrusted | None:
    """The reason why a file is not trusted, or None if no other user can change or replace it."""
    found = os.stat(path)
    if not trusted(found.st_uid):
        return Untrusted(f"it belongs to {name_of(found.st_uid)}", "")
    if written_by_others(found):
        return Untrusted(f"others may write to it (mode {mode_of(found)})", f"chmod go-w {quoted(path)}")
    try:
        for place in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
            check_holder(os.path.dirname(place), place)
    except Untrusted as error:
        return error
    return None


def check_parents(path: str) -> None:
    """Raise Untrusted if another user could replace this file or directory."""
    entry = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    while JUDGED and (parent := os.path.dirname(entry)) != entry:
        check_holder(parent, entry)
        entry = parent


def check_holder(directory: str, entry: str) -> None:
    """Raise Untrusted if another user could replace an entry of this directory."""
    if not JUDGED:
        return
    found = os.stat(directory)
    if not trusted(found.st_uid):
        raise Untrusted(
            f"{directory} belongs to {name_of(found.st_uid)}, who could exchange {entry}",
            f"run this as {name_of(found.st_uid)}, or keep it in a directory of your own",
        )
    if not written_by_others(found):
        return
    if found.st_mode & stat.S_ISVTX and _is_ours(entry):
        return
    raise Untrusted(
        f"{directory} may be written by others (owner {name_of(found.st_uid)}, mode {mode_of(found)}), "
        f"who could exchange {entry}",
        f"chmod go-w {quoted(directory)}, or keep it in a directory of your own",
    )


def trusted(uid: int) -> bool:
    """Whether files of this user are trusted."""
    return not JUDGED or uid in (_ROOT, os.geteuid()) or (uid == _UNMAPPED and _in_user_namespace())


def written_by_others(found: os.stat_result) -> bool:
    """Whether an untrusted user may write to a file. A group that contains only trusted users does not count."""
    if not JUDGED or not found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return False
    return bool(found.st_mode & stat.S_IWOTH) or not _is_own_group(found.st_gid)


def mode_of(found: os.stat_result) -> str:
    """The permissions of a file as `chmod` writes them."""
    return f"{stat.S_IMODE(found.st_mode):o}"


def name_of(uid: int) -> str:
    """A user as shown in a message, such as `ada (uid 1000)`."""
    import pwd  # imported here, because only an error needs it

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _refuse_shared(path: str, found: os.stat_result) -> None:
    if JUDGED and found.st_uid != os.geteuid():
        raise Untrusted(
            f"{path} belongs to {name_of(found.st_uid)} and not to {name_of(os.geteuid())}, who runs this",
            f"run this as {name_of(found.st_uid)}, or keep it in a directory of your own",
        )
    if JUDGED and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Untrusted(
            f"{path} is open to others: its mode is {mode_of(found)}",
            f"chmod 700 {quoted(path)}",
        )


def _is_directory(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _no_directory(path: str) -> str:
    found = os.lstat(path)
    what = f"a link to {os.readlink(path)}" if stat.S_ISLNK(found.st_mode) else "no directory"
    return f"{path} is {what} (owner {name_of(found.st_uid)})"


def _is_ours(path: str) -> bool:
    """Whether a file is trusted or does not exist. In the second case its creation fails if another user is faster."""
    try:
        return trusted(os.lstat(path).st_uid)
    except FileNotFoundError:
        return True


def _is_own_group(gid: int) -> bool:
    """Whether a group has only trusted users.

    A group without a name was assigned by a container runtime for its volumes: it is trusted if this process is in it.
    """
    import grp  # imported only if a group may write
    import pwd

    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return gid in (os.getegid(), *os.getgroups())
    return all(trusted(uid) for uid in _uids(members)) and all(
        trusted(user.pw_uid) for user in pwd.getpwall() if user.pw_gid == gid
    )


def _uids(names: list[str]) -> Iterator[int]:
    import pwd

    for name in names:
        with suppress(KeyError):  # no user has this name any more
            yield pwd.getpwnam(name).pw_uid


def _in_user_namespace() -> bool:
    """Whether this process is in a user namespace without some users. There root of the host appears as unmapped."""
    try:
        with open("/proc/self/uid_map") as text:
            return text.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def quoted(path: str) -> str:
    """A path quoted for a shell, for a hint."""
    import shlex  # it imports `re`, which costs a short command 3 ms

    return shlex.quote(path)
