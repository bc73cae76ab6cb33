"""Recipient lists as spreadsheets, databases and hands write them. No part of a field becomes a recipient."""

from __future__ import annotations

import codecs
import csv
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.mail.csv_rows import MAX_ROW_BYTES, MAX_ROW_LINES
from pixel_server.mail.list_reader import ListReader
from pixel_server.mail.list_rows import Columns, ListError, ListRow

Warnings = list[tuple[int, str]]


def read(
    content: bytes | str, column: str = "recipient", size: int = 1 << 20, **more
) -> tuple[list[ListRow], Warnings]:
    """Returns the rows of a list that comes in pieces of this size, and its warnings."""
    data = content.encode() if isinstance(content, str) else content
    warnings: Warnings = []
    reader = ListReader(Columns(column, **more), lambda line, text: warnings.append((line, text)))
    rows: list[ListRow] = []
    for start in range(0, len(data), size):
        reader.add(data[start : start + size])
        rows += reader.rows()
    reader.add(b"", is_final=True)
    rows += reader.rows()
    return rows, warnings


def taken(content: bytes | str, column: str = "recipient") -> tuple[list[str], list[int]]:
    """Returns the recipients of a list, and the lines of its bad rows. The size of pieces changes nothing."""
    rows, warnings = read(content, column)
    for size in (1, 3, 17):
        assert read(content, column, size) == (rows, warnings)
    return [row.recipient for row in rows if not row.error], [row.line for row in rows if row.error]


A, B, C, D = "ana@example.org", "ben@example.org", "cleo@example.org", "dora@example.org"

# Quotes

WHOLE = {
    "a quote within a field": f'recipient,size,note\n{A},19" rack,x\n{B},1,y\n',
    "a quote at the end of a field": f'recipient,size,note\n{A},19",x\n{B},1,y\n',
    "a line break in quotes": f'recipient,size,note\n{A},2,"Ring,\nbefore noon, if so, please"\n{B},1,y\n',
    "both of them": f'recipient,size,note\n{A},3" pin,x\n{B},2,"Ring,\nbefore noon, on Friday, thanks"\n',
    "blank before a quote": f'recipient, name\n{A}, "Lee, Ana"\n{B}, "Lee,\nBen"\n',
    "doubled quotes": f'recipient,name\n{A},"Ana ""A"" Lee, jr"\n{B},"""Ben"""\n',
    "an empty line in quotes": f'recipient,name\n{A},"one\n\n\nfour, five"\n{B},\n',
    "the recipient in quotes": f'name,recipient\n"Lee, Ana","{A}"\n"",  "{B}" \n',
    "no cells at the end": f"recipient,name,note\n{A}\n{B},Ben\n",
    "cells beyond the header": f'recipient,name\n{A},Ana,,\n{B},Ben,"", \n',
    "commas behind the header": f"recipient,name,,\n{A},Ana,,\n{B},Ben\n",
    "rows of empty cells": f'recipient,name\n,\n{A},Ana\n , \n"",""\n{B},Ben\n,\n\n',
    "line breaks of a row in CRLF": f'recipient;note\r\n{A};"1\n2"\r\n{B};"1\r\n2;3"\r\n',
    "no line end at the end": f"recipient,name\n{A},Ana\n{B},Ben",
    "a quoted header with a line break": f'"E-Mail\nof people";recipient\nx;{A}\n"y\nz";{B}\n',
    "line ends of Python on Windows": f"recipient,name\r\r\n{A},Ana\r\r\n{B},Ben\r\r\n",
    "a bar": f"id|recipient\n1|{A}\n2|{B}\n",
    "a tab": f'id\trecipient\n1\t{A}\n2\t"{B}"\n',
    "a semicolon, and commas in the header": f"Name, Vorname;recipient\nLee, Ana;{A}\nLee, Ben;{B}\n",
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_list_reader_row_of_a_spreadsheet_is_read(content):
    assert taken(content) == ([A, B], [])


BROKEN = {
    "a field goes on after its quotes": (f'{A},"5" pipe",x\n{B},1,y\n', [B], [2]),
    "and it goes on over lines": (f'{A},1,"said "no",\nat 5, on Monday, thanks"\n{B},1,y\n', [B], [2, 3]),
    "with addresses in it": (
        f'{A},1,"he "knows",\n{C}, and him, too\n{D}, at noon, thanks"\n{B},1,y\n', [B], [2, 3, 4]
    ),
    "a quote is never closed": (f'{A},"5 pipe,x\n{B},1,y\n{C},2,z\n', [B, C], [2]),
    "and other rows have quotes": (f'{A},"5 pin,x\n{B},1,y\n{C},"2, 3",z\n{D},1,"a\nb"\n', [B, C, D], [2]),
    "and prose follows": (f'{A},"5 pipe,x\nbefore noon, on Friday, thanks\n{C},"2",z\n', [C], [2, 3]),
    "and another row has a stray quote": (f'{A},"5 pipe,x\n{B},1,y\n{C},2,9" pin\n{D},3,z\n', [B, C, D], [2]),
    "two stray quotes hide rows": (f'{A},"5 pipe,x\n{B},1,y\n{C},2,9"\n{D},3,z\n', [D], [2, 3, 4]),
    "each line of a field is like a row": (
        f'{A},1,x\n{C},2,"p\n"q", r, s\n"t", u, v"\n{B},1,y\n', [A, B], [3, 4, 5]
    ),
    "a field goes on after empty lines": (
        f'{A},1,x\n{C},"say "so",\nthen", x\n\n\nnoon, x, y"\n{B},1,y\n', [A, B], [3, 4, 7]
    ),
    "quotes make too many cells": (f'{A},"", said Ana, at noon\nthanks"\n{B},1,y\n', [B], [2, 3]),
    "the last row": (f'{B},1,x\n{A},"5 pipe,x', [B], [3]),
    "prose without quotes": (f"{A},1,x\nbefore noon\n{B},Ring,\nas soon, as\n{C},1,x\n", [A, B, C], [3, 5]),
    "too many cells": (f"{A},1,x\n{B},1,x,and more\n{C},1,x\n", [A, C], [3]),
    "a return without quotes": (f"{A},1,a\rbefore noon, on Friday, x\n{B},1,x\n", [B], [2]),
    "the header once more": (f"{A},1,x\nrecipient,size,note\n{B},1,x\n", [A, B], [3]),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_list_reader_broken_row_is_left_out_and_the_next_row_is_read(case):
    content, recipients, bad = case
    assert taken(f"recipient,size,note\n{content}") == (recipients, bad)


def test_list_reader_lines_left_out_say_why():
    rows, _ = read(f'recipient,note\n{A},"a" b,\nof old"\nthe end\n{B},\n')
    assert [(row.line, row.error) for row in rows if row.error] == [
        (2, "is not CSV: its quotes are broken"),
        (3, "may be part of a field of line 2"),
        (4, "may be part of a field of line 2"),
    ]


def test_list_reader_prose_in_a_list_of_numbers_is_left_out():
    content = 'id,note,more\n1001,x,y\n1002,"a" b,\nbefore noon, then, x\n1003\nby the way\n1004,,\n'
    assert taken(content, "id") == (["1001", "1004"], [3, 4, 5, 6])
    assert taken("id,note,more\n1001\n1002,x\nby the way\n1003\n", "id") == (["1001", "1002", "1003"], [4])


def test_list_reader_prose_in_a_list_of_addresses_is_left_out_and_a_word_told():
    content = f"recipient,note,more\n{A},x,y\nnoon,x,y\n{B},x\n{C},x,y\n"
    assert taken(content) == ([A, "noon", B, C], [])
    assert read(content)[1] == [(3, "the recipient is not an address, but most recipients above are")]
    content = f"recipient,note,more\n{A},x,y\nbefore noon, on Friday, thanks\nnoon,x,y\n{B},x,y\n"
    assert taken(content) == ([A, B], [3, 4])
    assert taken(f'recipient,note,more\n{A},x,y\nnoon,say "so",y\n{B},19" rack,y\n') == ([A, B], [3])


@pytest.mark.parametrize("stray", ['{}"', '"{}', 'ana@exam"ple.org', '"{}" x'])
def test_list_reader_recipient_with_a_stray_quote_is_left_out(stray):
    content = f"note,recipient\nx,{stray.format(A)}\nx,{B}\n"
    assert taken(content) == ([B], [2])
    assert taken('recipient\nid1"\nid2\n') == (["id2"], [2])
    quoted = '"ana lee"@example.org'
    assert taken(f'recipient,note\n"{quoted.replace(chr(34), 2 * chr(34))}",x\n') == ([quoted], [])


def test_list_reader_row_like_lines_in_quotes_are_told():
    content = f'recipient,note\n{A},"Fwd:\n{C},hello\n"\n{B},"Fwd:\nhello"\n'
    rows, warnings = read(content)
    assert [row.recipient for row in rows] == [A, B]
    assert warnings == [(2, "a field in quotes has a line that looks like a row of the list")]


def test_list_reader_quote_never_closed_in_a_long_list_leaves_out_one_row():
    rows = "".join(f"p{n}@example.org,{n}\n" for n in range(3 * MAX_ROW_LINES))
    recipients, bad = taken_once(f'recipient,note\n{A},"stray\n{rows}')
    assert (len(recipients), bad) == (3 * MAX_ROW_LINES, [2])


def taken_once(content: bytes | str) -> tuple[list[str], list[int]]:
    rows, _ = read(content, size=1 << 16)
    return [row.recipient for row in rows if not row.error], [row.line for row in rows if row.error]


@pytest.mark.parametrize("mark", ["", '"'])
def test_list_reader_row_of_more_than_a_megabyte_is_left_out(mark):
    long = "x, y@example.org" * (MAX_ROW_BYTES // 8)
    content = f"recipient,note\n{A},1\n{C},{mark}{long}\nthe rest, of it\n{B},2\n"
    assert taken_once(content) == ([A, B], [3, 4])
    assert taken_once(content.replace("the rest, of it", D)) == (
        [A, B] if mark else [A, D, B],
        [3, 4][: 1 + len(mark)],
    )


@given(
    st.lists(
        st.lists(st.text(st.sampled_from('ab@,;"\n\r\t é')), min_size=3, max_size=3), min_size=1, max_size=5
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
)
def test_list_reader_agrees_with_the_writer_of_python(cells, delimiter, newline, size):
    """Fields of any content come back, and their rows keep their bytes."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(["recipient", "note", "more", "end"])
    for number, row in enumerate(cells):
        writer.writerow([f"p{number}@example.org", *row])
    rows, _ = read(out.getvalue(), size=size)
    assert [row.error for row in rows] == [""] * len(cells)
    assert [row.recipient for row in rows] == [f"p{number}@example.org" for number in range(len(cells))]
    for row, wanted in zip(rows, cells, strict=True):
        text = io.StringIO(row.raw.decode(), newline="")
        assert next(csv.reader(text, delimiter=delimiter, strict=True))[1:] == wanted


@given(st.text(st.sampled_from('ab,"\n\r x')), st.text(st.sampled_from('ab,"\n\r x')), st.integers(1, 40))
def test_list_reader_text_between_rows_is_never_taken_without_a_word(note, other, size):
    """A recipient that is no address is told, however broken the quotes are."""
    usual = "".join(f"{n}@example.org,x\n" for n in range(90))
    rows, warnings = read(f"recipient,note\n{usual}{A},x\n{B},{note}\n{C},{other}\n{D},x\n", size=size)
    rows = [row for row in rows if row.line > 91]
    told = {line for line, _ in warnings}
    others = [row for row in rows if not row.error and row.recipient not in (A, B, C, D)]
    assert {row.line for row in others} <= told
    addresses = [row.recipient for row in rows if not row.error and "@" in row.recipient]
    assert addresses == sorted(set(addresses))


# Beginnings and ends

BEGINNINGS = {
    "sep=;": "sep=;\r\n",
    "SEP=; in quotes": '"SEP=;"\r\n',
    "sep=; and empty cells": "sep=;;;\n",
    "blank lines": "\n \r\n;;\n\t\n",
    "a mark": "\ufeff",
    "two marks": "\ufeff\ufeff",
    "a mark and sep=;": "\ufeffsep=;\n",
    "sep=; and a blank line": "sep=;\n\n",
    "a mark and a blank line": "\ufeff\n\n",
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_list_reader_what_stands_before_the_header_is_skipped(beginning):
    assert taken(f"{beginning}recipient;note\n{A};x, y\n{B};z\n") == ([A, B], [])


def test_list_reader_sep_line_decides():
    assert taken(f"sep=|\nrecipient,old|recipient\n1,2|{A}\n")[0] == [A]
    assert taken(f"sep=\t\nrecipient\tnote\n{A}\tx\n")[0] == [A]
    assert taken(f"sep=^\nnote^recipient\nx^{A}\n")[0] == [A]


@pytest.mark.parametrize("end", ["\x1a", "\r\n\x1a", "\n\x1a\x1a", "\n\x1a\n", "\n\n\n", "\n,,\n\x1a"])
def test_list_reader_end_of_old_files_is_no_row(end):
    assert taken(f"recipient,note\n{A},x\n{B},y{end}")[0] == [A, B]
    assert taken(f"note,recipient\nx,{A}\ny,{B}\n\x1a") == ([A, B], [])
    assert taken(f"note,recipient\nx,{A}\ny,{B}\x1a") == ([A, B], [])


def test_list_reader_joined_lists_are_one_list():
    part = f"\ufeffrecipient,note\n{A},x\n"
    assert taken(part + f"\ufeff{B},x\n" + part) == ([A, B, A], [4])


@pytest.mark.parametrize("newline", ["\r", "\r\n", "\n", "\r\r\n"])
def test_list_reader_line_ends_of_any_system(newline):
    lines = ["recipient,note", f"{A},x", f'{B},"one{newline}two, three, four"', "", f"{C},z"]
    assert taken(newline.join(lines)) == ([A, B, C], [])
    assert taken(newline.join([*lines, ""])) == ([A, B, C], [])
    rows, _ = read(newline.join(lines))
    assert [(row.line, row.last_line) for row in rows] == [(2, 2), (3, 4), (6, 6)]


def test_list_reader_lines_of_two_systems_in_one_list():
    assert taken(f"recipient,note\r{A},x\r\n\ufeff{B},y\r\n\r{C},z\r") == ([A, B, C], [])
    assert taken(f"recipient,note\r\n{A},x\n{B},y\r\r\n") == ([A, B], [])
    assert taken(f"recipient,note\r{A},x\n{B},y\r{C},z\r") == ([C], [2])


def test_list_reader_ndjson_lines_of_any_system():
    for newline in ("\r", "\r\n", "\n"):
        lines = ["\ufeff", f'{{"recipient": "{A}"}}', "", f'\ufeff{{"recipient": "{B}"}}', "\x1a"]
        assert taken(newline.join(lines)) == ([A, B], [])


# Charsets

GERMAN = f"Name;recipient\r\nJörg Größe;{A}\r\nZoë;{B}\r\n"


@pytest.mark.parametrize(
    "content",
    [
        GERMAN.encode("utf-16"),
        codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"),
        GERMAN.encode("utf-16-le"),
        GERMAN.encode("utf-16-be"),
        GERMAN.replace(";", "\t").encode("utf-16"),
        GERMAN.replace("Zoë", "Zoë 🎈").encode("utf-16"),
        GERMAN.encode("utf-8-sig"),
    ],
)
def test_list_reader_unicode_is_read_without_a_word(content):
    assert taken(content) == ([A, B], [])
    assert read(content)[1] == []
    names = [row.name for row in read(content, with_names=True)[0]]
    assert names[0] == "Jörg Größe"
    assert names[1].startswith("Zoë")


@pytest.mark.parametrize(
    ("codec", "newline", "told"), [("cp1252", "\r\n", "Windows-1252"), ("mac-roman", "\r", "Mac Roman")]
)
def test_list_reader_older_charset_is_read_and_told_once(codec, newline, told):
    content = GERMAN.replace("\r\n", newline).encode(codec)
    assert taken(content) == ([A, B], [])
    rows, warnings = read(content, with_names=True)
    assert [row.name for row in rows] == ["Jörg Größe", "Zoë"]
    assert warnings == [(2, f"the list is not UTF-8, and is read as {told}")]
    column = f"Empfänger\r\n{A}\r\n".encode("cp1252")
    assert taken(column, "Empfänger") == ([A], [])


def test_list_reader_mixed_charsets_leave_out_the_rows_in_doubt():
    header, cp1252, utf8 = b"recipient,name\n", f"{A},Zoë\n".encode("cp1252"), f"{B},Zoë\n".encode()
    assert taken(header + cp1252 + utf8 + cp1252) == ([A, A], [3])
    assert taken(header + utf8 + cp1252 + utf8) == ([B, B], [3])
    assert taken(codecs.BOM_UTF8 + header + cp1252) == ([], [2])
    assert taken(header + A.encode() + b",\x81\x8d\n" + utf8) == ([B], [2])


def test_list_reader_lost_characters_in_a_recipient_are_bad():
    assert taken("recipient,name\nz\ufffde@example.org,\n" + f"{A},Zo\ufffd\n") == ([A], [2])
    assert taken('{"recipient": "z\\ufffde@example.org"}\n') == ([], [1])
    assert taken(GERMAN.encode("utf-16") + b"x")[0] == [A, B]


# Columns


@pytest.mark.parametrize(
    "header",
    [
        "recipient,recipient",
        "recipient,Recipient",
        "recipient,name,Name",
        'recipient,"note",note',
        "note,RECIPIENT,recipient",
    ],
)
def test_list_reader_two_columns_of_one_name_are_refused(header):
    with pytest.raises(ListError, match="two columns"):
        read(f"{header}\n{A},{A},x\n")
    assert taken('{"recipient": "a", "recipient": "b"}\n{"recipient": "c"}\n') == (["c"], [1])


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_list_reader_utf16_that_is_not_recognised_is_refused_by_its_name(codec):
    with pytest.raises(ListError, match="UTF-16 without a byte order mark"):
        read(f"日本,recipient\n1,{A}\n".encode(codec))


def test_list_reader_name_of_a_column_may_differ_in_case_and_form():
    assert taken(f"\u200bRecipient \u00a0,x\n{A},1\n")[0] == [A]
    assert taken(f"Empfa\u0308nger\n{A}\n", "Empf\u00e4nger")[0] == [A]
    with pytest.raises(ListError, match="no column 'recipient'; it names id, mail"):
        read("id;mail\n1;2\n")
    with pytest.raises(ListError, match="a column 'pixel_url' already"):
        read("recipient,Pixel_URL\n", added=["pixel_url"])


def test_list_reader_names_are_read_if_they_are_taken():
    content = f'NAME,recipient\n"Lee,\n Ana",{A}\n,{B}\n'
    assert [row.name for row in read(content, with_names=True)[0]] == ["Lee, Ana", None]
    assert [row.name for row in read(content)[0]] == [None, None]
    lines = "".join(
        f'{{"recipient": "{A}", "name": {name}}}\n' for name in ('""', '" "', '"Lee,\\n Ana"', "null")
    )
    assert [row.name for row in read(lines, with_names=True)[0]] == [None, None, "Lee, Ana", None]


# Recipients in doubt

DOUBTS = {
    "zoe\u200b@example.org": "invisible characters",
    "zo\u00ade@example.org": "invisible characters",
    "\u2060zoe@example.org": "invisible characters",
    "zoe@exam\u00a0ple.org": "invisible characters",
    "zoe@example.org\ufeff": "invisible characters",
    "zoe@example.org\ufe0f": "invisible characters",
    "zoe@example.org\u3164": "invisible characters",
    "zoe\u2800@example.org": "invisible characters",
    "zoe\uff20example.org": "another width or form",
    "zoe@example\u3002org": "another width or form",
    "mailto:zoe@example.org": "`mailto:`",
    "smtp:zoe@example.org": "`smtp:`",
    "MAILTO:zoe@example.org": "`mailto:`",
    "Zoe <zoe@example.org>": "a name or brackets",
    "<zoe@example.org>": "a name or brackets",
    "Zoe@example.org": "capital letters",
    "zoe@Example.ORG": "capital letters",
    "zoe@example.org.": "a dot at its end",
    "zoe@example.org, ben@example.org": "several addresses",
    "zoe @example.org": "a blank, comma or semicolon",
    "'zoe@example.org'": "quotes",
    "'zoe@example.org": "quotes",
    "zoe%40example.org": "`%40`",
    "zoe\u0308@example.org": "not composed",
    "Müller@example.org": "capital letters",
    "“zoe@example.org”": "a sign or dot",
    "`zoe@example.org`": "a sign or dot",
    "[zoe@example.org]": "a sign or dot",
    "zoe@example..org": "a sign or dot",
    "zoe@example.org:": "a sign or dot",
    "zoe@example.org*": "a sign or dot",
    "@example.org": "a sign or dot",
    "\uff4bd7": "another width or form",
}


@pytest.mark.parametrize("recipient", DOUBTS)
def test_list_reader_odd_recipient_is_told_with_its_line(recipient):
    content = f'name;recipient\nx;{A}\nx;"{recipient}"\nx;{B}\n'
    rows, warnings = read(content)
    assert [row.recipient for row in rows] == [A, recipient, B]
    assert {line for line, _ in warnings} == {3}
    assert DOUBTS[recipient] in warnings[-1][1]
    _, warnings = read(f'{{"recipient": "{A}"}}\n\n{{"recipient": "{recipient}"}}\n')
    assert [line for line, _ in warnings] == [3]


@pytest.mark.parametrize(
    "recipient",
    [
        "zoë@exämple.org",
        "o'neil+tag@example.co.uk",
        "1001",
        "Kunde-7",
        "太郎@例え.jp",
        "Ada L.",
        "zoe@[192.0.2.1]",
        "z..e@xn--bcher-kva.example",
        "हिन्दी@हिन्दी.भारत",
        "zoe@localhost",
    ],
)
def test_list_reader_usual_recipient_gives_no_warning(recipient):
    assert read(f"recipient\n{recipient}\n")[1] == []


def test_list_reader_random_pieces_of_a_large_list_lose_no_row():
    draw = random.Random(7)
    notes = ["x", "a b", '"q, r"', '"1\n2"', '19" rack']
    rows = "".join(f"p{n}@example.org,{draw.choice(notes)}\n" for n in range(2000))
    content = "recipient,note\n" + rows
    recipients = [f"p{n}@example.org" for n in range(2000)]
    for size in (7, 100, 4096, 65_536):
        assert [row.recipient for row in read(content, size=size)[0]] == recipients
