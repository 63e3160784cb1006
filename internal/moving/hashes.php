<?php
// Prints hashes of Laravel and WordPress, in the form of hashes.mjs.
require '/usr/share/php/Illuminate/Hashing/autoload.php';
define('ABSPATH', '/usr/share/wordpress/');
define('WPINC', 'wp-includes');
function apply_filters($name, $value) { return $value; }
require ABSPATH . 'wp-includes/pluggable.php';
require ABSPATH . 'wp-includes/class-phpass.php';
foreach (array_slice($argv, 1) as $p) {
	$line = fn ($format, $password, $hash) => print(implode("\t", [$format, bin2hex($password), $hash]) . "\n");
	$line('direct', $p, (new Illuminate\Hashing\BcryptHasher(['rounds' => 5]))->make($p));
	$line('direct', $p, (new Illuminate\Hashing\ArgonHasher)->make($p));
	$line('direct', $p, (new Illuminate\Hashing\Argon2IdHasher)->make($p));
	$line('direct', trim($p), wp_hash_password($p));
	$line('wordpress-spaces', "  $p\t", wp_hash_password("  $p\t"));
}
