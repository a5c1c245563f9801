# How does ServiceDesk Plus on premises send a resolved request to ticket-inbox, where there is no Python? Its action
# "Execute script" runs this, in Windows PowerShell 5.1 or PowerShell 7:
#
#   powershell -NoProfile -ExecutionPolicy Bypass -File send_resolved.ps1 $COMPLETE_V3_JSON_FILE
#   powershell -NoProfile -ExecutionPolicy Bypass -File send_resolved.ps1 -Flush      (only what waits in the spool)
#
# NOT RUN: neither on Windows nor on any PowerShell. It was parsed, and follows send_resolved.py step by step, which is
# tested: try it with one ticket. Unlike send_resolved.py it sends the file as it came, `diff` included, with the tenant
# put first; half a surrogate pair in it is refused (400); a private authority must be trusted by Windows.
param([string]$File, [switch]$Flush)

function Setting($Name, $Default) { if (Test-Path "env:$Name") { (Get-Item "env:$Name").Value } else { $Default } }

# Set these here, or in the environment; the secret is in a file that only ServiceDesk Plus may read.
$Url = (Setting 'TICKET_INBOX_URL' 'https://tickets.example.com').TrimEnd('/') + '/webhook/servicedesk/resolved-ticket'
$TenantId = Setting 'TICKET_INBOX_TENANT' 'acme'
$SecretFile = Setting 'TICKET_INBOX_SECRET_FILE' (Join-Path $PSScriptRoot 'ticket-inbox-secret')
$Spool = Setting 'TICKET_INBOX_SPOOL' (Join-Path $PSScriptRoot 'ticket-inbox-spool')
$Statuses = @((Setting 'TICKET_INBOX_STATUSES' 'Resolved,Closed').Split(',') | ForEach-Object { $_.Trim() })
$SignedTimestamp = Setting 'TICKET_INBOX_SIGNED_TIMESTAMP' ''  # 1 where ticket-inbox has SIGNED_TIMESTAMP_SECONDS
$Budget = 30  # seconds for all that one run sends, waits included
$Try = 10  # seconds for one try
$SpoolLimit = 1000  # events

$Aside = 400, 413, 415, 422  # the same bytes would be refused again
$Mend = @{ 202 = ''; 401 = '; mend TenantId or the secret'; 404 = '; mend Url'; 413 = '; have MAX_BODY_BYTES raised' }
$Prefix = '{"tenant_id": ' + (ConvertTo-Json -Compress $TenantId) + ', '
$Utf8 = New-Object Text.UTF8Encoding $false

# Return true if the request has just got one of $Statuses.
function Test-Transition($Document) {
    if ($Statuses -notcontains "$($Document.request.status.name)".Trim()) { return $false }
    $old, $new = $Document.diff.old.request, $Document.diff.new.request
    if ($null -eq $old -or $null -eq $new) { return $true }  # an older build does not say what changed
    return "$(ConvertTo-Json -Compress @($old.status))" -cne "$(ConvertTo-Json -Compress @($new.status))"
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

# Write an event into the spool, whole or not at all; return it, with a note why the spool could not take it.
function Save-Event([string]$Text) {
    $id = [guid]::NewGuid().ToString()
    $path = Join-Path $Spool ('{0:d20}.{1}.json' -f (([DateTime]::UtcNow.Ticks - 621355968000000000) * 100), $id)
    $new = @{ Path = $path; Id = $id; Body = $Utf8.GetBytes($Text); Held = $null; Note = '' }
    try {
        [void][IO.Directory]::CreateDirectory($Spool)
        if (@(Get-Spooled).Count -ge $SpoolLimit) { throw "it holds $SpoolLimit events" }
        $stream = [IO.File]::Create("$path.tmp")
        try { $stream.Write($new.Body, 0, $new.Body.Length); $stream.Flush($true) } finally { $stream.Dispose() }
        [IO.File]::Move("$path.tmp", $path)
        if ($claimed = Open-Event $path) { return $claimed }
    } catch {
        $new.Note = "; the spool $Spool could not take it: $($_.Exception.GetBaseException().Message)"
        Remove-Item -LiteralPath "$path.tmp" -ErrorAction SilentlyContinue
    }
    return $new
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

# Send an event once. Return the answer, with the detail of a refusal (RFC 9457) and when to send it again.
function Send-Once($One, [byte[]]$Secret, [double]$Seconds) {
    $handler = New-Object Net.Http.HttpClientHandler
    $handler.AllowAutoRedirect = $false
    $client = New-Object Net.Http.HttpClient $handler
    try {
        $client.Timeout = [TimeSpan]::FromSeconds($Seconds)
        $request = [Net.Http.HttpRequestMessage]::new([Net.Http.HttpMethod]::Post, $Url)
        $request.Content = [Net.Http.ByteArrayContent]::new($One.Body)
        $request.Headers.ExpectContinue = $false
        $signed = $One.Body
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
        $body = $answer.Content.ReadAsStringAsync().GetAwaiter().GetResult()
        try { if ($detail = (ConvertFrom-Json $body).detail) { $text = $detail } } catch { $body = '' }  # not ours
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

# Send what waits, oldest first, then `New`. Return the answers to events that left the spool, and the last one.
function Send-All($New, [byte[]]$Secret) {
    $clock, $done, $failures = [Diagnostics.Stopwatch]::StartNew(), @{}, 0
    $last = New-Answer 202 'nothing was sent' $null
    $queue = New-Object Collections.ArrayList
    foreach ($path in @(Get-Spooled)) { [void]$queue.Add($path) }
    if ($New -and $New.Held) { [void]$queue.Add($New) } elseif ($New) { $queue.Insert(0, $New) }
    while ($queue.Count -gt 0 -and $clock.Elapsed.TotalSeconds -lt $Budget) {
        $one = $queue[0]; $queue.RemoveAt(0)
        if ($one -is [string]) { $one = Open-Event $one }
        if (-not $one) { continue }
        $left = [Math]::Max(0.01, $Budget - $clock.Elapsed.TotalSeconds)
        $last = Send-Once $one $Secret ([Math]::Min([double]$Try, $left))
        if ($last.Status -eq 202 -or $Aside -contains $last.Status) {
            $done[$one.Id], $failures = $last, 0
            try { Remove-Event $one $last } catch { continue }  # another run has it too
        } elseif ($null -ne $last.Wait) {
            $most = [Math]::Min(8.0, 0.5 * [Math]::Pow(2, $failures))
            $pause = [Math]::Max(0.0, $last.Wait) + (Get-Random -Minimum 0.0 -Maximum $most)  # full jitter
            if ($clock.Elapsed.TotalSeconds + $pause -gt $Budget) { break }
            Start-Sleep -Milliseconds ([int]($pause * 1000))
            $failures++
            if ($one.Held) { [void]$queue.Add($one) } else { $queue.Insert(0, $one) }  # the event may be at fault
        } elseif ($last.Status -eq 0 -or $last.Status -eq 401) { break }  # the others would fail too
    }
    return @{ Done = $done; Last = $last }
}

# Return true if all is well, and the message that ServiceDesk Plus shows in the request's history.
function Send-Resolved {
    $new, $sent = $null, $null
    if (-not ($Flush -or $File -eq '--flush')) {
        $text = [IO.File]::ReadAllText($File)
        $document = ConvertFrom-Json $text
        if ($document.request -isnot [Management.Automation.PSCustomObject]) { throw "$File holds no request" }
        $nothing = "nothing to send: the status has not become $($Statuses -join ' or ')"
        if (-not (Test-Transition $document)) { return $true, $nothing }
        $new = Save-Event ($Prefix + $text.TrimStart().Substring(1))
    }
    try { $sent = Send-All $new ([byte[]](Read-Secret)) }
    catch { $sent = @{ Done = @{}; Last = (New-Answer 0 "no secret: $($_.Exception.Message)" $null) } }
    $delivered = @($sent.Done.Keys | Where-Object { $sent.Done[$_].Status -eq 202 })
    $others = @($sent.Done.Keys | Where-Object { $delivered -notcontains $_ -and -not ($new -and $_ -eq $new.Id) })
    $refused = -join ($others | ForEach-Object { "; $_ is in refused/: $($sent.Done[$_].Text)" })
    $left = @(Get-Spooled).Count
    $count = "$($delivered.Count) delivered, $left in the spool$refused$($new.Note)"
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
