# How does ServiceDesk Plus on premises send a resolved request to ticket-inbox, where there is no Python? Its action
# "Execute script" runs this, in Windows PowerShell 5.1 or PowerShell 7:
#
#   powershell -NoProfile -ExecutionPolicy Bypass -File send_resolved.ps1 $COMPLETE_V3_JSON_FILE
#   powershell -NoProfile -ExecutionPolicy Bypass -File send_resolved.ps1 -Flush      (only what waits in the spool)
#
# Its tests were run on PowerShell 7.6.9, Linux, .NET 10: 62 of 64 held, and the other two were faults of the tests.
# NOT RUN: Windows PowerShell 5.1, Windows, and what was added since: internal_name, edited resolutions, V1 files, code
# pages, files that cannot be read, pictures. It follows send_resolved.py step by step, which is tested: try it with one
# ticket. Unlike that it sends the file as it came, `diff` included, with the tenant put first; half a surrogate pair in
# it is refused (400), members that differ only in case cannot be read, and Windows must trust a private authority.
param([string]$File, [switch]$Flush)

function Setting($Name, $Default) { if (Test-Path "env:$Name") { (Get-Item "env:$Name").Value } else { $Default } }

# Set these here, or in the environment; the secret is in a file that only ServiceDesk Plus may read.
$Url = (Setting 'TICKET_INBOX_URL' 'https://tickets.example.com').TrimEnd('/') + '/webhook/servicedesk/resolved-ticket'
$TenantId = Setting 'TICKET_INBOX_TENANT' 'acme'
$SecretFile = Setting 'TICKET_INBOX_SECRET_FILE' (Join-Path $PSScriptRoot 'ticket-inbox-secret')
$Spool = Setting 'TICKET_INBOX_SPOOL' (Join-Path $PSScriptRoot 'ticket-inbox-spool')
$Statuses = @((Setting 'TICKET_INBOX_STATUSES' 'Resolved,Closed').Split(',') | ForEach-Object { $_.Trim() })
$CodePage = Setting 'TICKET_INBOX_CODE_PAGE' ''  # of files not in UTF-8, such as windows-1252; empty: the system's
$MaxBodyBytes = 1048576  # what ticket-inbox has as MAX_BODY_BYTES
if ((Setting 'TICKET_INBOX_MAX_BODY_BYTES' '') -match '^\s*([0-9]{1,9})\s*$') { $MaxBodyBytes = [int]$Matches[1] }
$SignedTimestamp = Setting 'TICKET_INBOX_SIGNED_TIMESTAMP' ''  # 1 where ticket-inbox has SIGNED_TIMESTAMP_SECONDS
$Budget = 30  # seconds for all that one run sends, waits included
$Try = 10  # seconds for one try
$SpoolLimit = 1000  # events

$Aside = 400, 413, 415, 422  # the same bytes would be refused again
$Mend = @{ 202 = ''; 401 = '; mend TenantId or the secret'; 404 = '; mend Url'; 413 = '; have MAX_BODY_BYTES raised' }
$Clock = [Diagnostics.Stopwatch]::StartNew()
$Prefix = '{"tenant_id": ' + (ConvertTo-Json -Compress $TenantId) + ', '
$Utf8 = New-Object Text.UTF8Encoding $false
$Shown = 'status', 'resolution', 'closure_info', 'closure_comments', 'resolved_time', 'completed_time'
$Pictures = [regex]('(?i)data:image(?:\\?/|\\u002f)[a-z0-9.+\\-]+;base64,' +
    '(?>[a-z0-9+/=]+|\\[/rn]|\\u00(?:0[ad]|2[bf]|3d))*')  # writers of JSON may escape / + = and line breaks
$Pictureless = 'sent without its inline pictures'

# Return a file's text, and a warning if its encoding was guessed; throw if it cannot be read.
function Read-Text([byte[]]$Content) {
    $mark, $length = "$($Content[0..2])", $Content.Length
    foreach ($bigEndian in $false, $true) {
        $utf16 = New-Object Text.UnicodeEncoding $bigEndian, $true, $true
        if ($mark.StartsWith("$($utf16.GetPreamble())")) { return $utf16.GetString($Content, 2, $length - 2), '' }
    }
    $start = if ($mark -eq '239 187 191') { 3 } else { 0 }
    $strict = New-Object Text.UTF8Encoding $false, $true
    try { return $strict.GetString($Content, $start, $length - $start), '' } catch { $page = $CodePage }  # not in UTF-8
    if ($PSEdition -ne 'Desktop') { [Text.Encoding]::RegisterProvider([Text.CodePagesEncodingProvider]::Instance) }
    if (-not $page) { $page = [Text.Encoding]::GetEncoding(0).WebName }  # the system's
    $encode, $decode = [Text.EncoderFallback]::ExceptionFallback, [Text.DecoderFallback]::ExceptionFallback
    $text = [Text.Encoding]::GetEncoding([string]$page, $encode, $decode).GetString($Content)
    return $text, "; WARNING: the file is not UTF-8 and was read as ${page}: look whether its letters are right"
}

# Return why a request is not to be sent, or nothing; throw if the document holds no request of API V3.
function Get-Objection($Document) {
    $object = [Management.Automation.PSCustomObject]
    $request = $Document.request
    if ($request -is $object -and $request.PSObject.Properties['WORKORDERID']) {
        throw 'this is the V1 file of $COMPLETE_JSON_FILE; give $COMPLETE_V3_JSON_FILE in the script''s line'
    }
    $status = $request.status
    if ($Document -isnot $object -or $request -isnot $object -or -not $request.id -or $status -isnot $object) {
        throw 'it holds no request of API V3 with an id and a status; give $COMPLETE_V3_JSON_FILE'
    }
    $names = "$($status.name)".Trim(), "$($status.internal_name)".Trim()
    if (-not ($names | Where-Object { $_ -and $Statuses -contains $_ })) {
        $hint = if ($status.in_progress -eq $false) { '; it is not in progress: is it missing in Statuses?' }
        return "the status is $($status.name), not $($Statuses -join ' or ')$hint"
    }
    $old, $new = $Document.diff.old.request, $Document.diff.new.request
    if ($old -isnot $object -or $new -isnot $object) { return }  # new, or a build that does not say what was edited
    if (@($old.PSObject.Properties).Count + @($new.PSObject.Properties).Count -eq 0) { return }
    foreach ($member in $Shown) {
        $before = "$(ConvertTo-Json -Compress -Depth 50 @($old.$member))"
        if ($before -cne "$(ConvertTo-Json -Compress -Depth 50 @($new.$member))") { return }
    }
    return 'neither its status nor its resolution was edited'
}

function Read-Secret {
    $given = Setting 'TICKET_INBOX_SECRET' ''
    if (-not $given) { $given = [IO.File]::ReadAllText($SecretFile) }  # in UTF-8, or what its mark says
    $Utf8.GetBytes(($given -replace '[\r\n]+\z', ''))
}

function Get-Signature([byte[]]$Secret, [byte[]]$Text) {
    $hmac = New-Object Security.Cryptography.HMACSHA256
    $hmac.Key = $Secret
    'sha256=' + [BitConverter]::ToString($hmac.ComputeHash($Text)).Replace('-', '').ToLowerInvariant()
}

# Oldest first.
function Get-Spooled { Get-ChildItem "$Spool/*.json" -ErrorAction Ignore | Sort-Object Name | ForEach-Object FullName }

# `Wait`, then send it again; null: not in this run
function New-Answer($Status, $Text, $Wait) { @{ Status = $Status; Text = $Text; Wait = $Wait } }

# Lock a spooled event for this process; return nothing if it is gone, another tenant's, or locked by another run.
function Open-Event($Path) {
    try { $held = [IO.File]::Open($Path, 'Open', 'ReadWrite', 'None') } catch { return }  # ends with the process
    $memory = New-Object IO.MemoryStream
    $held.CopyTo($memory)
    $body = $memory.ToArray()
    if ($Utf8.GetString($body).StartsWith($Prefix, [StringComparison]::Ordinal)) {
        return @{ Path = $Path; Id = ([IO.Path]::GetFileName($Path) -split '\.')[1]; Body = $body; Held = $held }
    }
    $held.Dispose()
}

# Write a file into the spool or refused/, whole or not at all; throw if it cannot, or if the folder is full.
function Write-Whole([string]$Path, [byte[]]$Content) {
    $folder = [IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName($Path)).FullName
    $there = @(Get-ChildItem "$folder/*.json" -ErrorAction Ignore).Count
    if ($there -ge $SpoolLimit) { throw "it holds $SpoolLimit events" }
    try {
        $stream = [IO.File]::Create("$Path.tmp")
        try { $stream.Write($Content, 0, $Content.Length); $stream.Flush($true) } finally { $stream.Dispose() }
        [IO.File]::Move("$Path.tmp", $Path)
    } finally { Remove-Item -LiteralPath "$Path.tmp" -ErrorAction Ignore }
}

function New-Path($Folder, $Id) {
    Join-Path $Folder ('{0:d20}.{1}.json' -f (([DateTime]::UtcNow.Ticks - 621355968000000000) * 100), $Id)
}

# Write an event into the spool; return it, with a note why the spool could not take it.
function Save-Event([string]$Text) {
    $id = [guid]::NewGuid().ToString()
    $new = @{ Path = (New-Path $Spool $id); Id = $id; Body = $Utf8.GetBytes($Text); Held = $null; Note = '' }
    try {
        Write-Whole $new.Path $new.Body
        if ($claimed = Open-Event $new.Path) { return $claimed }
    } catch { $new.Note = "; the spool $Spool could not take it: $($_.Exception.GetBaseException().Message)" }
    return $new
}

# Write a file that cannot be read into refused/, as it came, with the reason; return where it is, or why not.
function Save-Unread([byte[]]$Content, [string]$Reason) {
    $folder = Join-Path $Spool 'refused'
    $path = New-Path $folder ([guid]::NewGuid().ToString())
    try {
        Write-Whole $path $Content
        $text = "$Reason`nTo send it, run the script with this file's path.`n"
        [IO.File]::WriteAllText([IO.Path]::ChangeExtension($path, 'txt'), $text)
        return "the file is kept as $path"
    } catch { return "NOT KEPT: $folder could not take it: $($_.Exception.GetBaseException().Message)" }
}

# Remove an event from the spool: it was delivered, or goes to refused/ with the reason.
function Remove-Event($One, $Answer) {
    if (-not $One.Held) { return }
    $One.Held.Dispose()
    if ($Answer.Status -eq 202) { return [IO.File]::Delete($One.Path) }
    $folder = [IO.Directory]::CreateDirectory((Join-Path $Spool 'refused')).FullName
    $aside = Join-Path $folder ([IO.Path]::GetFileName($One.Path))
    [IO.File]::Move($One.Path, $aside)
    [IO.File]::WriteAllText([IO.Path]::ChangeExtension($aside, 'txt'), $Answer.Text, $Utf8)
}

# Send an event's body once. Return the answer, with the detail of a refusal (RFC 9457) and when to send it again.
function Send-Once($One, [byte[]]$Body, [byte[]]$Secret) {
    $seconds = [Math]::Max(0.01, [Math]::Min([double]$Try, $Budget - $Clock.Elapsed.TotalSeconds))
    $handler = New-Object Net.Http.HttpClientHandler
    $handler.AllowAutoRedirect = $false
    $client = New-Object Net.Http.HttpClient $handler
    try {
        $client.Timeout = [TimeSpan]::FromSeconds($seconds)
        $request = [Net.Http.HttpRequestMessage]::new([Net.Http.HttpMethod]::Post, $Url)
        $request.Content = [Net.Http.ByteArrayContent]::new($Body)
        $request.Headers.ExpectContinue = $false
        $signed = $Body
        if ($SignedTimestamp) {
            $now = [DateTimeOffset]::UtcNow.ToUnixTimeSeconds().ToString()
            $signed = [byte[]]($Utf8.GetBytes("$now.") + $signed)
            [void]$request.Headers.TryAddWithoutValidation('X-ServiceDesk-Timestamp', $now)
        }
        [void]$request.Headers.TryAddWithoutValidation('X-ServiceDesk-Signature', (Get-Signature $Secret $signed))
        [void]$request.Headers.TryAddWithoutValidation('X-Correlation-ID', $One.Id)
        [void]$request.Content.Headers.TryAddWithoutValidation('Content-Type', 'application/json')
        $answer = $client.SendAsync($request).GetAwaiter().GetResult()
        $status, $text, $wait = [int]$answer.StatusCode, $answer.ReasonPhrase, 0
        $problem = $answer.Content.ReadAsStringAsync().GetAwaiter().GetResult()
        try { if ($detail = (ConvertFrom-Json $problem).detail) { $text = $detail } } catch { $detail = '' }  # not ours
        $after = $answer.Headers.RetryAfter
        if ($after -and $null -ne $after.Delta) { $wait = $after.Delta.TotalSeconds }
        elseif ($after -and $null -ne $after.Date) { $wait = ($after.Date - [DateTimeOffset]::UtcNow).TotalSeconds }
        if ($status -ne 408 -and $status -ne 429 -and $status -lt 500) { $wait = $null }
        $hint = if ($Mend.ContainsKey($status)) { $Mend[$status] } elseif ($status -lt 400) { '; mend Url' } else { '' }
        return New-Answer $status "$status $text$hint" $wait
    } catch {
        $cause = $_.Exception.GetBaseException()
        $hopeless = $cause.GetType().Name -match '^(Authentication|UriFormat|Argument|NotSupported)'
        if ($hopeless) { return New-Answer 0 "${Url}: $($cause.Message); mend Url, or have it trusted" $null }
        return New-Answer 0 "${Url}: $($cause.Message)" 0
    } finally { $client.Dispose() }
}

# Send an event once; if it is too long, once more without its inline pictures, which the answer then says.
function Send-Fitting($One, [byte[]]$Secret) {
    $body = $One.Body
    $slim = $Utf8.GetBytes($Pictures.Replace($Utf8.GetString($body), ''))
    if ($body.Length -gt $MaxBodyBytes) { $body = $slim }
    $answer = Send-Once $One $body $Secret
    if ($answer.Status -eq 413 -and $slim.Length -lt $body.Length) {
        $body = $slim
        $answer = Send-Once $One $body $Secret
    }
    if ($body.Length -lt $One.Body.Length) { $answer.Text += "; $Pictureless" }
    return $answer
}

# Send what waits, oldest first, then `New`. Return the answers to events that left the spool, and the last one.
function Send-All($New, [byte[]]$Secret) {
    $Clock.Restart()
    $done, $failures = @{}, 0
    $last = New-Answer 202 'nothing was sent' $null
    $queue = New-Object Collections.ArrayList
    foreach ($path in @(Get-Spooled)) { [void]$queue.Add($path) }
    if ($New -and $New.Held) { [void]$queue.Add($New) } elseif ($New) { $queue.Insert(0, $New) }
    while ($queue.Count -gt 0 -and $Clock.Elapsed.TotalSeconds -lt $Budget) {
        $one = $queue[0]; $queue.RemoveAt(0)
        if ($one -is [string]) { $one = Open-Event $one }
        if (-not $one) { continue }
        $last = Send-Fitting $one $Secret
        if ($last.Status -eq 202 -or $Aside -contains $last.Status) {
            $done[$one.Id], $failures = $last, 0
            try { Remove-Event $one $last } catch { continue }  # another run has it too
        } elseif ($null -ne $last.Wait) {
            $most = [Math]::Min(8.0, 0.5 * [Math]::Pow(2, $failures))
            $pause = [Math]::Max(0.0, $last.Wait) + (Get-Random -Minimum 0.0 -Maximum $most)  # full jitter
            if ($Clock.Elapsed.TotalSeconds + $pause -gt $Budget) { break }
            Start-Sleep -Milliseconds ([int]($pause * 1000))
            $failures++
            if ($one.Held) { [void]$queue.Add($one) } else { $queue.Insert(0, $one) }  # the event may be at fault
        } elseif ($last.Status -eq 0 -or $last.Status -eq 401) { break }  # the others would fail too
    }
    return @{ Done = $done; Last = $last }
}

# Return true if all is well, and the message that ServiceDesk Plus shows in the request's history.
function Send-Resolved {
    $new, $sent, $guessed = $null, $null, ''
    if (-not ($Flush -or $File -eq '--flush')) {
        $content = [IO.File]::ReadAllBytes($File)
        try {
            $text, $guessed = Read-Text $content
            if (-not $text.TrimStart().StartsWith('{')) { throw 'it is no JSON object' }
            $nothing = Get-Objection (ConvertFrom-Json ($Pictures.Replace($text, '')))  # 5.1 may have a limit of 2 MB
        } catch {
            $reason = $_.Exception.GetBaseException().Message -replace '(?s)(\(\d+\)): .+', '$1'  # 5.1 quotes all of it
            return $false, "nothing is sent: $reason; $(Save-Unread $content $reason)"
        }
        if ($nothing) { return $true, "nothing to send: $nothing" }
        $new = Save-Event ($Prefix + $text.TrimStart().Substring(1))
    }
    try { $sent = Send-All $new ([byte[]](Read-Secret)) }
    catch { $sent = @{ Done = @{}; Last = (New-Answer 0 "no secret: $($_.Exception.Message)" $null) } }
    $delivered = @($sent.Done.Keys | Where-Object { $sent.Done[$_].Status -eq 202 })
    $others = @($sent.Done.Keys | Where-Object { $delivered -notcontains $_ -and -not ($new -and $_ -eq $new.Id) })
    $refused = -join ($others | ForEach-Object { "; $_ is in refused/: $($sent.Done[$_].Text)" })
    $left = @(Get-Spooled).Count
    $slim = @($delivered | Where-Object { $sent.Done[$_].Text.Contains($Pictureless) })
    $notes = "$(-join ($slim | ForEach-Object { "; $_ was $Pictureless" }))$($new.Note)$guessed"
    $count = "$($delivered.Count) delivered, $left in the spool$refused$notes"
    if (-not $new) { return (-not $refused -and $left -eq 0), "$count; $($sent.Last.Text)" }
    if ($delivered -contains $new.Id) { return $true, "$count; correlation id $($new.Id)" }
    $fate, $why = 'nothing is lost: it will be sent with the next one, or by --flush', $sent.Last.Text
    if ($sent.Done.ContainsKey($new.Id)) { $fate, $why = 'put into refused/', $sent.Done[$new.Id].Text }
    if ($new.Note) { $fate = 'NOT KEPT' }
    return $false, "${fate}: $why; $count; correlation id $($new.Id)"
}

$ErrorActionPreference = 'Stop'
try {
    if ($PSEdition -eq 'Desktop') {
        Add-Type -AssemblyName System.Net.Http
        [Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12  # 5.1 may start without it
    }
    $well, $message = Send-Resolved
} catch { $well, $message = $false, "nothing is sent; give `$COMPLETE_V3_JSON_FILE or -Flush: $($_.Exception.Message)" }
$result = if ($well) { 'success' } else { 'failure' }
$line = ConvertTo-Json -Compress ([ordered]@{ result = $result; message = $message })
[Console]::Out.WriteLine([regex]::Replace($line, '[^\x20-\x7e]', { param($found) '\u{0:x4}' -f [int]$found.Value[0] }))
exit [int](-not $well)
