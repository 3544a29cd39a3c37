"""Tables of films as tests write them, and what their adapter makes of them."""

from arra_med.datasets.base import Excluded
from arra_med.datasets.table import Table
from arra_med.schema import Exclusion, Sample

FILMS = """file,report,view,patient,split
a.png,No  effusiön.,PA,1,train
b.png,Effusion,LL,2,val
c.png,Clear,AP Supine,3,Test
"""


def table(root, content, *, stored_as="utf-8", name="films.csv", **options):
    (root / name).write_bytes(content.encode(stored_as))
    options = {"image": "file", "text": "report"} | options
    return Table(Table.Options(file=root / name, **options))


def completed(adapter, redact=lambda text: text):
    """Items as the ingest makes them, with prompts."""
    for item in adapter.items():
        if isinstance(item, Sample):
            try:
                yield adapter.complete(item, redact)
            except Excluded as error:
                yield Exclusion(
                    item=item.key, source=item.source, reason=error.reason, detail=error.detail
                )
        else:
            yield item


def outcomes(adapter):
    return [i.key if isinstance(i, Sample) else i.reason for i in completed(adapter)]


def prompts(adapter):
    return [i.prompt for i in completed(adapter)]
