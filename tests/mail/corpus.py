# ruff: noqa: E501 - one mail on each line is easier to read
"""Mails as mail programs write them, each with a reason. [TOP] and [END] mark the places of its pixels."""

from __future__ import annotations

from typing import NamedTuple

TOP, END = b"[TOP]", b"[END]"


class Mail(NamedTuple):
    """A mail. marked: its HTML, which is encoded in `encoding` if that is set. mark: byte order mark."""

    reason: str
    marked: bytes
    encoding: str = ""
    mark: bytes = b""


def _kana() -> bytes:
    """Returns two-byte characters of ISO-2022-JP whose bytes look like `</body>` in ASCII."""
    return b"\x1b$B</body>x\x1b(B"


MAILS = (
    Mail("the plain case", b"<html><body>[TOP]<p>Hi</p>[END]</body></html>"),
    Mail("no body at all: a fragment", b"[TOP]<p>Hi</p>\n[END]"),
    Mail("nothing but text", b"[TOP]Hi there[END]"),
    Mail("an empty mail", b"[TOP][END]"),
    Mail("upper case, as Outlook 2003 wrote", b"<HTML><BODY BGCOLOR=white>[TOP]<P>Hi[END]</BODY></HTML>"),
    Mail("a blank in the end tag", b"<body>[TOP]Hi[END]</body \t\r\n></html>"),
    Mail("an end tag with an attribute", b"<body>[TOP]Hi[END]</body foo='>'></html>"),
    Mail("an end tag with a slash", b"<body>[TOP]Hi[END]</body/></html>"),
    Mail("</bodyfoo> is another element", b"<body>[TOP]Hi[END]</body></html></bodyfoo>"),
    Mail("in a comment after it", b"<body>[TOP]Hi[END]</body></html><!-- </body> -->"),
    Mail("in a comment before it", b"<body>[TOP]<!-- not </body> yet -->Hi[END]</body>"),
    Mail("a comment that ends at once", b"<body>[TOP]<!-->Hi[END]</body><!--->x<!-- </body> -->"),
    Mail("a comment that ends with a bang", b"<body>[TOP]<!-- </body> --!>Hi[END]</body>"),
    Mail("dashes in a comment", b"<body>[TOP]<!-- a -- </body> ---->Hi[END]</body>"),
    Mail("a comment that never ends", b"[TOP]<p>Hi</p>[END]<!-- </body></html>"),
    Mail("in a script", b"<body>[TOP]<script>document.write('</body>')</script>Hi[END]</body>"),
    Mail("after it, in a script", b"<body>[TOP]Hi[END]</body><script>var a = '</body>';</script></html>"),
    Mail(
        "a script in a comment in a script",
        b"<body>[TOP]<script><!-- <script> </script> </body> --></script>Hi[END]</body>",
    ),
    Mail("JSON-LD for Gmail", b'<body>[TOP]<script type="application/ld+json">{"a":"</body>"}</script>[END]</body>'),
    Mail("in a style", b"<body>[TOP]<style>/* </body> */ a:after{content:'<'}</style>Hi[END]</body>"),
    Mail("in a template", b"<body>[TOP]<template><p></body></p></template>Hi[END]</body>"),
    Mail("a template in a template", b"[TOP]<template><template></template></body></template>[END]</body>"),
    Mail("a template that never ends", b"<body>[TOP]Hi[END]<template></body></html>"),
    Mail("in a textarea", b"<body>[TOP]<textarea></body></textarea>[END]</body>"),
    Mail("in the title", b"<html><head><title></body></title></head><body>[TOP]Hi[END]</body></html>"),
    Mail("in a noscript", b"<body>[TOP]Hi[END]</body><noscript></body></noscript></html>"),
    Mail("in an attribute", b"<body>[TOP]<a title='</body>' href=\"</body>\">Hi</a>[END]</body>"),
    Mail("a > in an attribute", b'<body>[TOP]<img alt="a > b </body>">Hi[END]</body>'),
    Mail("in srcdoc", b'<body>[TOP]<iframe srcdoc="<body></body>"></body></iframe>[END]</body>'),
    Mail("quotes without a value", b"<body>[TOP]<p \"it's\">don't <b>Hi</b>[END]</body>"),
    Mail("blanks about the equals sign", b"<body>[TOP]<a href = '</body>'>Hi</a>[END]</body>"),
    Mail(
        "Outlook's ghost table (downlevel-hidden)",
        b"<body>[TOP]<!--[if mso]><table><tr><td></body><![endif]--><p>Hi<!--[if mso]></td></tr></table><![endif]-->"
        b"[END]</body>",
    ),
    Mail(
        "a body each for Outlook and for the rest",
        b"<!--[if mso]><body class='mso'><![endif]--><!--[if !mso]><!--><body class='a'><!--<![endif]-->[TOP]Hi"
        b"<!--[if mso]></body><![endif]--><!--[if !mso]><!--></body><!--<![endif]--></html>[END]",
    ),
    Mail(
        "downlevel-revealed, as Word writes it",
        b"<body>[TOP]<![if !mso]><p></body></p><![endif]>Hi<p><![if !supportEmptyParas]>&nbsp;<![endif]></p>[END]</body>",
    ),
    Mail("downlevel-revealed in its other form", b"<body>[TOP]<!--[if !mso]>--></body><!--<![endif]-->Hi[END]</body>"),
    Mail("a condition that never ends", b"<body>[TOP]<!--[if !mso]><!--><p>Hi</p>[END]</body></html>"),
    Mail("an end of a condition, alone", b"<body>[TOP]<![endif]-->Hi ]] [END]</body> a ]> b"),
    Mail(
        "Outlook's settings in the head",
        b'<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><!--[if gte mso 9]><xml><o:OfficeDocument'
        b"Settings><o:AllowPNG/></o:OfficeDocumentSettings></xml><![endif]--></head><body>[TOP]<o:p>&nbsp;</o:p>[END]"
        b"</body></html>",
    ),
    Mail("Word's smart tags", b"<body>[TOP]<st1:place w:st=\"on\">Rome</st1:place><?xml:namespace prefix=o />[END]</body>"),
    Mail("CDATA is no CDATA in HTML", b"<body>[TOP]<![CDATA[ a > b ]]>Hi[END]</body>"),
    Mail("CDATA in SVG is", b"<body>[TOP]<svg><style/><text><![CDATA[</body>]]></text></svg>Hi[END]</body>"),
    Mail("titles in SVG", b"<body>[TOP]<svg><title>a<b></title></svg><math><mi>x</mi></math>Hi[END]</body>"),
    Mail("SVG that never ends", b"<body>[TOP]<svg><path d=''><p>Hi<style></body></style>[END]</body>"),
    Mail("a quoted mail, whole", b"<body>[TOP]Re:<blockquote><html><body>old</body></html></blockquote>[END]</body>"),
    Mail("two documents, one after the other", b"<html><body>[TOP]a</body></html><html><body>b[END]</body></html>"),
    Mail("a mailing list's footer after the end", b"<html><body>[TOP]Hi[END]</body></html><p>-- unsubscribe"),
    Mail("CRLF", b"<html>\r\n<body>[TOP]\r\n<p>Hi</p>\r\n[END]</body>\r\n</html>\r\n"),
    Mail("CR alone, and all three", b"<body>[TOP]\rHi\r\n\n\r[END]</body>\r"),
    Mail("a form feed and a vertical tab", b"<body\x0c>[TOP]\x0bHi[END]</body\x0c>"),
    Mail("a NUL in text and tag", b"<body>[TOP]a\0b<p\0q>Hi[END]</body>\0"),
    Mail("UTF-8 with its mark", b"\xef\xbb\xbf<!DOCTYPE html>[TOP]\n<p>\xc3\xa4\xe2\x82\xac[END]"),
    Mail("UTF-8 that is cut", b"<body>[TOP]\xe2\x82<p>\xff\xfe\x80[END]</body>\xe2"),
    Mail("ISO-8859-1", b"<meta charset=iso-8859-1><body>[TOP]Gr\xfc\xdfe[END]</body>"),
    Mail("windows-1252's own", b"<body>[TOP]\x93Hi\x94 \x80\x81\x8d[END]</body>"),
    Mail("KOI8-R", b"<body>[TOP]\xf0\xd2\xc9\xd7\xc5\xd4[END]</body>"),
    Mail("Shift_JIS, whose second bytes may be ASCII", b"<body>[TOP]\x83\x5c\x95\x7c\x83\x7b[END]</body>"),
    Mail("GB18030 with digits within", b"<body>[TOP]\x81\x30\x81\x30\xc4\xe3[END]</body>"),
    Mail("ISO-2022-JP, as Japanese mailers write", b"<body>[TOP]" + _kana() + b"Hi[END]</body>" + _kana()),
    Mail("UTF-16 with its mark", b"<html><body>[TOP]<p>Hi</p>[END]</body></html>", "utf-16-le", b"\xff\xfe"),
    Mail("UTF-16 of the other end", b"<html><body>[TOP]<p>Hi</p>[END]</body></html>", "utf-16-be", b"\xfe\xff"),
    Mail("UTF-16 without mark", b"<html><body>[TOP]\r\n<!-- </body> -->[END]</body></html>", "utf-16-le"),
    Mail("UTF-16 without mark, and a line first", b"\r\n<body>[TOP]Hi[END]</body>", "utf-16-le"),
    Mail("UTF-16 of the other end, without mark or tag", b"[TOP]Hi <b>Zo\xc3\xab</b> \xe4\xbd\xa0[END]", "utf-16-be"),
    Mail("UTF-16 without body", b"<!DOCTYPE html>[TOP]<p>Hi</p>[END]", "utf-16-le", b"\xff\xfe"),
    Mail("UTF-32", b"<body>[TOP]Hi[END]</body>", "utf-32-le", b"\xff\xfe\0\0"),
    Mail("entities, right and wrong", b"<body>[TOP]&lt;/body&gt; &amp;&copy;&nosuch; AT&T &#0; &#x80;[END]</body>"),
    Mail("Jinja", b"<body>[TOP]{# </body> #}{% if a > '</body>' %}{{ b|e }}{% endif %}[END]</body>"),
    Mail("Django", b"{% load i18n %}<body>[TOP]{% comment %}</body>{% endcomment %}{% url 'a' %}[END]</body>"),
    Mail("Handlebars", b"<body>[TOP]{{!-- </body> --}}{{{ raw }}}{{#if x}}Hi{{/if}}{{! </body> }}[END]</body>"),
    Mail("Liquid", b"<body>[TOP]{%- comment -%}</body>{%- endcomment -%}{{ a | append: '</body>' }}[END]</body>"),
    Mail("ERB and EJS", b"<body>[TOP]<% if a > 1 %><%= '</body>' %><% end %>[END]</body>"),
    Mail("PHP", b"<body>[TOP]<?php if ($a > 1) echo '</body>'; ?><?= $b ?>[END]</body>"),
    Mail("Mailchimp", b"<body>[TOP]*|MC_PREVIEW_TEXT|* *|IF:FNAME|*Hi *|FNAME|**|END:IF|*[END]</body>"),
    Mail("Mailjet, Brevo, Salesforce", b"<body>[TOP][[var:name]] {{ contact.A }} %%first%% ${x} $!{y}[END]</body>"),
    Mail("a merge field that looks like a title", b"<body>[TOP]Hi <<Title>> <<Style>> <<First Name>>[END]</body>"),
    Mail("Smarty, a comment behind the body", b"<body>[TOP]<p>Hi {$name}</p>[END]</body></html>{* old </body> *}"),
    Mail("Smarty, a comment in the body", b"<body>[TOP]{* </body> {$a} *}{if $a}Hi{/if}[END]</body>"),
    Mail("Twig, over several lines", b"<body>[TOP]Hi[END]</body>{#-\n </body>\n" + b"x" * 5000 + b"</body> -#}"),
    Mail("Blade", b"<body>[TOP]Hi {{ $name }}[END]</body>{{-- </body> {{ $old }} </body> --}}"),
    Mail("Go", b"<body>[TOP]Hi {{ .Name }}[END]</body>{{- /* {{ .Old }} </body> */ -}}{{/* }} </body> */}}"),
    Mail("Handlebars, with braces in it", b"<body>[TOP]Hi[END]</body>{{!-- {{name}} </body> --}}{{~!-- }} </body> --~}}"),
    Mail("Liquid, with marks inside", b"<body>[TOP]Hi[END]</body>{% comment %}{% if a %}</body>{% endcomment %}{% doc %}</body>{% enddoc %}"),
    Mail("Liquid, in the line", b"<body>[TOP]Hi[END]</body>{%- # old </body> -%}"),
    Mail("Tornado", b"<body>[TOP]Hi[END]</body>{% comment the old </body> %}"),
    Mail("JSP and ASP.NET", b"<body>[TOP]Hi <%= name %>[END]</body><%-- <%= old %> </body> --%>"),
    Mail("Liquid, a comment in a comment", b"<body>[TOP]Hi[END]</body>{% comment %}a{%- comment -%}b{%- endcomment -%}</body>{% endcomment %}"),
    Mail("Django, half a comment in a comment", b"<body>[TOP]{% comment %}{% comment %}</body>{% endcomment %}Hi[END]</body>"),
    Mail("EEx", b"<body>[TOP]Hi[END]</body><%!-- <%= a %> </body> --%>"),
    Mail("Template Toolkit", b"<body>[TOP]Hi [% name %][END]</body>[%# </body> %][%- # </body>\n-%][% a = '</body>' %]"),
    Mail("Fluid", b"<body>[TOP]<font>Hi</font>[END]</body><f:comment></body></f:comment>"),
    Mail("ExpressionEngine", b"<body>[TOP]Hi[END]</body>{!-- {name} </body> --}"),
    Mail("ERB, a comment", b"<body>[TOP]Hi[END]</body><%# </body> %>"),
    Mail("Mako", b"<body>[TOP]Hi ${name}[END]</body><%doc>\n%> </body>\n</%doc>\n  ## </body>\n</html>"),
    Mail("Razor", b"<body>[TOP]Hi @Model.Name[END]</body>@* old </body> *@"),
    Mail("PHP, with its end in a comment", b"<body>[TOP]Hi[END]</body><?php /* ?> </body> */ // </body>\n ?>"),
    Mail("PHP, a pattern like a comment", b"<body>[TOP]<?php glob('a/*.png') ?>Hi[END]</body>"),
    Mail("FreeMarker", b"<body>[TOP]Hi ${name}[END]</body><#-- </body> <#if a> --></html>[#-- </body> --]"),
    Mail("Velocity", b"<body>[TOP]Hi $name[END]</body>#* </body> *#\n## </body>\n#** </body> **#"),
    Mail("Thymeleaf", b"<body>[TOP]Hi[END]</body><!--/* </body> */--><!--/*-->old</body><!--*/-->"),
    Mail("AMPscript", b'<body>[TOP]Hi %%=v(@a)=%%[END]</body>%%[ /* </body> */ set @a = "</body>" ]%%'),
    Mail("a telephone's code, and a line to reply above", b"<body>[TOP]##- Reply above -##<p>*#06#, #*21#, {*}, @*[END]</body>"),
    Mail("a comment that never ends: of Smarty", b"<body>[TOP]{* Hi <p>there</p>[END]</body>"),
    Mail("Mako, at the very end", b"<body>[TOP]Hi[END]\n## </body>"),
    Mail("Velocity, lines at the beginning", b"## the mail\n## for spring\n[TOP]<p>Hi</p>[END]"),
    Mail("Velocity, lines that end in CRLF", b"## the mail\r\n## for spring\r\n[TOP]Hi[END]\r\n## </body>\r\n## </html>"),
    Mail("a line of hashes", b"<body>[TOP]\n#########<p>SALE</p>[END]</body>"),
    Mail("braces in a tag", b'<body>[TOP]<a href="{{ url("a") }}" {% if a %}class="b"{% endif %}>Hi</a>[END]</body>'),
    Mail("half a template, with braces left open", b"<body>[TOP]{{ {% {# Hi[END]</body>"),
    Mail("less-than signs that begin no tag", b"<body>[TOP]1 < 2 <3 <= <-- </> <[END]</body>"),
    Mail("a tag that is cut off", b"<body>[TOP]<p>Hi</p>[END]<a href=\"https://example.org/</body>"),
    Mail("a tag name that is cut off", b"<body>[TOP]<p>Hi</p>[END]</bod"),
    Mail("an unclosed style, as a cut mail has it", b"<body>[TOP]<p>Hi</p>[END]<style>a{}</body></html>"),
    Mail("plaintext never ends", b"[TOP]Hi[END]<plaintext></body>"),
    Mail("XHTML", b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x">\n<html><head>'
         b"<title>a</title><meta http-equiv='x' /></head><body>[TOP]<br/>[END]</body></html>"),
    Mail("a head, and no body tag", b"<!DOCTYPE html><html><head><title>a</title></head>[TOP]\n<p>Hi[END]"),
    Mail("styles first, and no html tag", b"<meta charset=utf-8><style>p{}</style>[TOP]\n<p>Hi</p>[END]"),
    Mail("AMP", b"<!doctype html><html \xe2\x9a\xa14email><head><style amp4email-boilerplate>body{}</style></head>"
         b"<body>[TOP]<amp-img src=a></amp-img>[END]</body></html>"),
    Mail("MJML's output", b"<!doctype html><html><head><!--[if !mso]><!--><meta http-equiv=a><!--<![endif]-->"
         b"</head><body style=\"word-spacing:normal;\">[TOP]<div><!--[if mso | IE]><table><![endif]--></div>\n  "
         b"[END]</body></html>"),
    Mail("a hidden preheader", b"<body>[TOP]<div style=display:none>News&zwnj;&nbsp;</div><p>Hi</p>[END]</body>"),
    Mail("two end tags", b"<body>[TOP]Hi</body>[END]</body></html>"),
    Mail("a table that is left open", b"<body>[TOP]<table><tr><td>Hi[END]</body></html>"),
    Mail("another's pixel", b"<body>[TOP]Hi<img src='https://t.example.com/o/open.gif' width=1>[END]</body>"),
    Mail("trailing blanks after the end", b"<body>[TOP]Hi[END]</body></html>\r\n \t\r\n"),
)  # fmt: skip


def plain(mail: Mail) -> bytes:
    """Returns the mail without pixels."""
    return with_tags(mail, b"", b"")


def with_tags(mail: Mail, top: bytes, bottom: bytes) -> bytes:
    """Returns the mail with these tags in their places."""
    html = mail.marked.replace(TOP, top).replace(END, bottom)
    return mail.mark + (html.decode().encode(mail.encoding) if mail.encoding else html)
