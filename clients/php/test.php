<?php
// Holds the client to the vectors: `php test.php` prints the number of checks, or the first that fails.
declare(strict_types=1);

use PixelServer\Minter;
use PixelServer\Secrets;

require __DIR__ . '/PixelServerLinks.php';

set_error_handler(fn (int $level, string $message, string $file, int $line) => throw new ErrorException(
    $message, 0, $level, $file, $line));
$vectors = json_decode(file_get_contents(__DIR__ . '/../vectors.json'), true, 512, JSON_THROW_ON_ERROR);
$base = 'https://img.example.org';
$minter = new Minter($base, $vectors['secrets']);
$checks = 0;

function same(mixed $expected, mixed $actual, string $what): void
{
    global $checks;
    $checks++;
    if ($expected !== $actual) {
        fwrite(STDERR, "$what:\nexpected " . json_encode($expected) . "\nactual   " . json_encode($actual) . "\n");
        exit(1);
    }
}

/** Returns the message of the InvalidArgumentException that a function throws, and '' if it throws none. */
function refusal(callable $function): string
{
    try {
        $function();
        return '';
    } catch (InvalidArgumentException $error) {
        return $error->getMessage();
    }
}

/** Returns options of the vectors under the names that they have in PHP. */
function options(array $options): array
{
    $options += ['sent_at' => null];
    $options['sentAt'] = $options['sent_at'];
    unset($options['sent_at']);
    return $options;
}

function token(array $link): string
{
    return base64_decode(strtr(basename($link['url'], '.gif'), '-_', '+/'));
}

foreach ($vectors['links'] as $vector) {
    $expected = array_intersect_key($vector, ['url' => 0, 'html' => 0, 'privacy_url' => 0]);
    $options = options($vector['options']);
    $link = (new Minter($vector['base_url'], $vectors['secrets']))
        ->link($vector['campaign'], $vector['recipient'], ...$options);
    same($expected, $link, $vector['what']);
    if (isset($options['mode'])) {
        $byMinter = new Minter($vector['base_url'], $vectors['secrets'], $options['mode']);
        unset($options['mode']);
        same($expected, $byMinter->link($vector['campaign'], $vector['recipient'], ...$options), $vector['what']);
    }
}

foreach ($vectors['recipient_keys'] as $recipient => $key) {
    same($key, bin2hex(substr(token($minter->link('spring', (string) $recipient)), 6, 8)), "key of $recipient");
}

foreach ($vectors['refused'] as $vector) {
    $vector += ['base_url' => $base, 'campaign' => 'spring', 'recipient' => 'ada@example.org', 'options' => []];
    $message = refusal(fn () => (new Minter($vector['base_url'], $vectors['secrets']))
        ->link($vector['campaign'], $vector['recipient'], ...options($vector['options'])));
    same(true, str_starts_with($message, $vector['field']), "{$vector['what']}: $message");
}

same(true, refusal(fn () => $minter->link('spring', "\xff")) !== '', 'a recipient that is not UTF-8');
same(true, refusal(fn () => $minter->link('spring', 'ada', part: 'middle')) !== '', 'an unknown part');
foreach ([[], ['signing' => [], 'recipient' => 'x'], ['signing' => [''], 'recipient' => 'x']] as $secrets) {
    same(true, refusal(fn () => new Minter($base, $secrets)) !== '', 'secrets that are missing');
}

[$before, $link] = [time(), $minter->link('spring', 'ada')];
$minted = unpack('N', token($link), 2)[1];
same(true, $before <= $minted && $minted <= time(), 'the time without options is now');

/** Sets the secrets of the environment, and removes those that are not named. */
function environment(array $environment): void
{
    foreach (['PIXEL_SECRET', 'PIXEL_RECIPIENT_SECRET', 'PIXEL_SECRET_FILE', 'PIXEL_RECIPIENT_SECRET_FILE'] as $name) {
        putenv(isset($environment[$name]) ? "$name=$environment[$name]" : $name);
    }
}

foreach ($vectors['environments'] as $vector) {
    environment($vector['environment']);
    if (isset($vector['secrets'])) {
        same($vector['secrets'], Secrets::fromEnvironment(), $vector['what']);
    } else {
        $message = refusal(Secrets::fromEnvironment(...));
        same(true, str_contains($message, $vector['refused']), "{$vector['what']}: $message");
    }
}

$file = tempnam(sys_get_temp_dir(), 'pixel-');
file_put_contents($file, "newest-key-of-the-file\nolder-key-of-the-file\n");
$environment = ['PIXEL_SECRET_FILE' => $file, 'PIXEL_RECIPIENT_SECRET' => 'recipient-secret-of'];
environment($environment);
same(['signing' => ['newest-key-of-the-file', 'older-key-of-the-file'], 'recipient' => 'recipient-secret-of'],
    Secrets::fromEnvironment(), 'secrets in files');
environment($environment + ['PIXEL_SECRET' => 'key-of-the-environment']);
same(true, refusal(Secrets::fromEnvironment(...)) !== '', 'a secret and a file');
unlink($file);
environment($environment);
same(true, refusal(Secrets::fromEnvironment(...)) !== '', 'a file that is gone');

echo "$checks checks\n";
