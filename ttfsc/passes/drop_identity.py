"""Remove what changes nothing: `identity` (dropout at inference) and `flatten` of a value that is already flat.

%d = identity %a                  =>
%f = flatten %d                       %f = flatten %a
%g = flatten %f
%v = dense %g w=@w                    %v = dense %f w=@w
"""

from ttfsc.ir import Flatten, Identity, Net, Op, reread


def drop_identity(net: Net) -> Net:
    """Remove identity ops and flattens of flat values."""
    renamed, kept = dict[str, str](), list[Op]()
    for op in net.ops:
        op = reread(op, renamed)
        flat = isinstance(op, Flatten) and len(net.type_of(op.x).shape) == 1
        if isinstance(op, Identity) or flat:
            assert isinstance(op, Identity | Flatten)
            renamed[op.name] = op.x
        else:
            kept.append(op)
    return net.with_ops(kept)
