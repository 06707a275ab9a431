"""What goes wrong for a user, as exceptions with one clear line each.

* KexueError
  + CheckpointError  (ValueError)  a source checkpoint cannot be read: missing, truncated, damaged, not one at all
  + ConversionError  (ValueError)  it can be read, but does not fit the model or its configuration
  + OutputError      (OSError)     the result cannot be written where it was asked for
  + InputError       (ValueError)  an argument, a data file or a text is not what the call expects

The command line prints the message of any of them and exits with 2; each message says what was expected, what came,
and what to do. Every class is also a built-in error, so that `except ValueError` works for whoever never heard of us.
"""


class KexueError(Exception):
    """Base class of all errors that kexue_hf raises on purpose."""


class CheckpointError(KexueError, ValueError):
    """A source checkpoint cannot be read: missing, truncated, damaged, or not a checkpoint."""


class ConversionError(KexueError, ValueError):
    """A checkpoint was read, but its tensors do not fit the weight map or the configuration."""


class OutputError(KexueError, OSError):
    """A result cannot be written: the place exists already, is not writable, or the disk is full."""


class InputError(KexueError, ValueError):
    """An argument, a data file or a text is not what the call expects."""
