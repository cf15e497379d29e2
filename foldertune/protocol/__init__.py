"""The folder protocol. Start with `trials.py`."""

from foldertune.protocol.leases import (
    DEFAULT_LEASE as DEFAULT_LEASE,
)
from foldertune.protocol.leases import (
    SIGNS_PER_LEASE as SIGNS_PER_LEASE,
)
from foldertune.protocol.leases import (
    Heartbeat as Heartbeat,
)
from foldertune.protocol.leases import (
    Leases as Leases,
)
from foldertune.protocol.leases import (
    describe_owner as describe_owner,
)
from foldertune.protocol.leases import (
    has_died as has_died,
)
from foldertune.protocol.leases import (
    identify_process as identify_process,
)
from foldertune.protocol.leases import (
    owner_has_died as owner_has_died,
)
from foldertune.protocol.trials import (
    MAX_BYTES as MAX_BYTES,
)
from foldertune.protocol.trials import (
    MAX_CHECKPOINT as MAX_CHECKPOINT,
)
from foldertune.protocol.trials import (
    MAX_LOOK_BACK as MAX_LOOK_BACK,
)
from foldertune.protocol.trials import (
    MAX_NAME as MAX_NAME,
)
from foldertune.protocol.trials import (
    SAFE as SAFE,
)
from foldertune.protocol.trials import (
    BrokenFile as BrokenFile,
)
from foldertune.protocol.trials import (
    Claim as Claim,
)
from foldertune.protocol.trials import (
    Folder as Folder,
)
from foldertune.protocol.trials import (
    LeaseLost as LeaseLost,
)
from foldertune.protocol.trials import (
    Record as Record,
)
from foldertune.protocol.trials import (
    Trial as Trial,
)
from foldertune.protocol.trials import (
    TrialName as TrialName,
)
from foldertune.protocol.trials import (
    append_line as append_line,
)
from foldertune.protocol.trials import (
    host_name as host_name,
)
from foldertune.protocol.trials import (
    new_owner as new_owner,
)
from foldertune.protocol.trials import (
    own_host as own_host,
)
from foldertune.protocol.trials import (
    printable as printable,
)
from foldertune.protocol.trials import (
    read_bytes as read_bytes,
)
from foldertune.protocol.trials import (
    read_object as read_object,
)
from foldertune.protocol.trials import (
    read_records as read_records,
)
from foldertune.protocol.trials import (
    sync as sync,
)
from foldertune.protocol.trials import (
    to_line as to_line,
)
from foldertune.protocol.trials import (
    utc_now as utc_now,
)
from foldertune.protocol.trials import (
    write_whole as write_whole,
)
