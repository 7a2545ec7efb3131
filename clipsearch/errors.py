"""Every error that clipsearch raises on purpose.

ClipSearchError                  exit 1
├── InvalidInputError            exit 2   a query, option or argument that cannot be used
├── MediaError                   exit 2   a file that cannot be read as a picture or a text
│   ├── PictureError
│   └── TextError
├── LibraryError                 exit 1
│   ├── LibraryNotFoundError     exit 3   no library there, or nothing in it yet
│   ├── LibraryLockedError       exit 4   another process, or another engine of this one, is writing
│   ├── StoreCorruptError        exit 5   committed data is missing or damaged
│   ├── SchemaVersionError       exit 5   written by a newer clipsearch
│   ├── EncoderMismatchError     exit 6   the library is pinned to another encoder
│   └── EncoderChangedError      exit 1   another encoder answers now than when the call began
├── EncoderError                 exit 6
│   ├── EncoderUnavailableError  exit 6   unknown name, no weights, no hub, missing package
│   └── DeviceError              exit 6   a GPU that was lost or cannot run the encoder, whatever the input
├── AnnIndexError                exit 1   an approximate index cannot be built or loaded
│   └── IndexServerError         exit 1   the server of an index is away, is not trusted, or does not hold it
├── WorkerUnavailableError       exit 1   no process can be started to decode pictures in
├── ClusterError                 exit 1   a cluster that embeds cannot be reached, or has failed
└── ServerError                  exit 1   a server cannot be reached, or does not answer as one of clipsearch does
    ├── AccessDeniedError        exit 1   the server needs another token, or does not allow that
    └── ServerBusyError          exit 1   the server has too much to do

Other exit codes: 0 done, also when the reader of the output has gone; 1 also what the system refuses, such as an
unreadable file or a full disk; 2 also wrong usage; 70 an internal error, which is a bug; 130 interrupted.

A message states the fact, the value and the remedy; one that names an option of the command line also says what to
write in Python. Nothing raised by FAISS, SQLAlchemy, Pillow or
ONNX Runtime passes a public function; it is mapped where that package is called.
"""


class ClipSearchError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InvalidInputError(ClipSearchError, ValueError):
    """A query, option or argument that cannot be used."""

    exit_code = 2


class MediaError(ClipSearchError):
    """A file that cannot be read; `str(error)` is the reason shown to the user."""

    exit_code = 2


class PictureError(MediaError):
    """A file that cannot be decoded as a picture."""


class TextError(MediaError):
    """A file that cannot be decoded as a text."""


class DocumentError(MediaError):
    """A file that cannot be read as a document, such as a PDF."""


class LibraryError(ClipSearchError):
    """A library that cannot do what was asked."""


class LibraryNotFoundError(LibraryError):
    """There is no library at that place, or it holds nothing yet."""

    exit_code = 3


class LibraryLockedError(LibraryError):
    """Another process, or another engine of this one, holds the writer lock."""

    exit_code = 4


class StoreCorruptError(LibraryError):
    """Committed data is missing or damaged."""

    exit_code = 5


class SchemaVersionError(LibraryError):
    """The catalog was written by a newer clipsearch."""

    exit_code = 5


class EncoderMismatchError(LibraryError):
    """The library is pinned to another encoder."""

    exit_code = 6


class EncoderChangedError(LibraryError):
    """Another encoder answers now than when the call began; searches begin again by themselves."""


class EncoderError(ClipSearchError):
    """An encoder that failed."""

    exit_code = 6


class EncoderUnavailableError(EncoderError):
    """An encoder that is unavailable: unknown name, no weights, no hub, or a missing package."""


class DeviceError(EncoderError):
    """A device that cannot go on, whatever the input: it was lost, or lacks memory for one; no file is to blame."""


class AnnIndexError(ClipSearchError):
    """An approximate index that cannot be built, saved or loaded."""


class IndexServerError(AnnIndexError):
    """The server of an index cannot be reached, is not trusted, or does not hold it; the message is for the user."""


class WorkerUnavailableError(ClipSearchError):
    """No process can be started to decode pictures in; no file is to blame."""


class ClusterError(ClipSearchError):
    """A cluster that embeds cannot be reached, or has failed; no file is to blame."""


class ServerError(ClipSearchError):
    """A server that cannot be reached, or does not answer as `clipsearch serve` does."""


class AccessDeniedError(ServerError):
    """The server needs a token, or another one, or does not allow what was asked."""


class ServerBusyError(ServerError):
    """The server has too much to do, or the work took too long."""
