;; What is done to every recorded element: decoding, rounding, and comparing. Compiled by scripts/build-simd.mjs into
;; elements-module.ts. Numbers are float64 unless said; no kernel writes beyond the elements it is given.
(module
  (memory (import "memory" "memory") 1)

  ;; Widens `count` bfloat16, a multiple of 4.
  (func (export "widenBfloat16") (param $from i32) (param $to i32) (param $count i32)
    (local $end i32) (local $four v128)
    (local.set $end (i32.add (local.get $from) (i32.shl (local.get $count) (i32.const 1))))
    (loop $fours
      (local.set $four (i32x4.shl (v128.load16x4_u align=1 (local.get $from)) (i32.const 16)))
      (v128.store (local.get $to) (f64x2.promote_low_f32x4 (local.get $four)))
      (v128.store offset=16 (local.get $to) (f64x2.promote_low_f32x4
        (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15 (local.get $four) (local.get $four))))
      (local.set $to (i32.add (local.get $to) (i32.const 32)))
      (br_if $fours (i32.lt_u (local.tee $from (i32.add (local.get $from) (i32.const 8))) (local.get $end)))))

  ;; Rounds numbers in place, two at a time: to the nearest, ties to even. $least and $most are powers of two: the smallest
  ;; normal number, and the first beyond the largest. 1.5 times a number's own power of two, $up exponents further up, rounds
  ;; to the format's last place when it is added and taken away. $beyond stands for what exceeds $max.
  (func (export "round")
    (param $at i32) (param $count i32) (param $least f64) (param $most f64) (param $up i32) (param $max f64) (param $beyond f64)
    (local $end i32) (local $x v128) (local $far v128) (local $size v128) (local $rounded v128)
    (local $smallest v128) (local $first v128) (local $add v128) (local $largest v128) (local $over v128)
    (local.set $end (i32.add (local.get $at) (i32.shl (local.get $count) (i32.const 3))))
    (local.set $smallest (f64x2.splat (local.get $least)))
    (local.set $first (f64x2.splat (local.get $most)))
    (local.set $add (i64x2.splat (i64.shl (i64.extend_i32_s (local.get $up)) (i64.const 52))))
    (local.set $largest (f64x2.splat (local.get $max)))
    (local.set $over (f64x2.splat (local.get $beyond)))
    (loop $twos
      (local.set $x (v128.load (local.get $at)))
      (local.set $size (f64x2.abs (local.get $x)))
      (local.set $far (v128.or (v128.const i64x2 0x0008000000000000 0x0008000000000000) (i64x2.add (local.get $add)
        (v128.and (v128.const i64x2 0x7ff0000000000000 0x7ff0000000000000)
          (f64x2.pmin (f64x2.pmax (local.get $size) (local.get $smallest)) (local.get $first))))))
      (local.set $rounded (f64x2.sub (f64x2.add (local.get $x) (local.get $far)) (local.get $far)))
      (local.set $rounded (v128.bitselect
        (v128.or (local.get $over) (v128.and (local.get $x) (v128.const i64x2 0x8000000000000000 0x8000000000000000)))
        (local.get $rounded)
        (f64x2.gt (f64x2.abs (local.get $rounded)) (local.get $largest))))
      ;; Infinities and NaN stay what they are.
      (v128.store (local.get $at) (v128.bitselect (local.get $rounded) (local.get $x)
        (f64x2.lt (local.get $size) (v128.const f64x2 inf inf))))
      (br_if $twos (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (local.get $end)))))

  ;; Holds 1 or more observed numbers against the expected ones, which are the values as they are stored.
  ;; $sums: [Σz², largest z] of what a store took from the equal ones, in its standard errors, to which this adds; an ulp is
  ;; the exponent and $down, below 0, of no less than $least. $others: positions from $first on of those that differ, if their
  ;; value is finite. Returns how many are equal, and in the upper half how many positions there are.
  (func (export "tally")
    (param $value i32) (param $expected i32) (param $observed i32) (param $count i32)
    (param $least f64) (param $down i32) (param $first i32) (param $others i32) (param $sums i32) (result i32)
    (local $end i32) (local $equal i32) (local $other i32) (local $step i64)
    (local $exact f64) (local $seen f64) (local $z f64) (local $squares f64) (local $largest f64)
    (local.set $end (i32.add (local.get $value) (i32.shl (local.get $count) (i32.const 3))))
    (local.set $other (local.get $others))
    (local.set $step (i64.shl (i64.extend_i32_s (local.get $down)) (i64.const 52)))
    (local.set $squares (f64.load (local.get $sums)))
    (local.set $largest (f64.load offset=8 (local.get $sums)))
    (loop $next
      (local.set $seen (f64.load (local.get $observed)))
      (local.set $exact (f64.load (local.get $value)))
      (if (f64.eq (local.get $seen) (f64.load (local.get $expected)))
        (then
          (local.set $equal (i32.add (local.get $equal) (i32.const 1)))
          (if (f64.ne (local.get $seen) (local.get $exact))
            (then
              ;; An ulp's standard errors of a store, which is evenly spread: the root of 12.
              (local.set $z (f64.div
                (f64.mul (f64.abs (f64.sub (local.get $seen) (local.get $exact))) (f64.const 3.4641016151377544))
                (f64.reinterpret_i64 (i64.add (local.get $step) (i64.and (i64.const 0x7ff0000000000000)
                  (i64.reinterpret_f64 (f64.max (f64.abs (local.get $exact)) (local.get $least))))))))
              (local.set $squares (f64.add (local.get $squares) (f64.mul (local.get $z) (local.get $z))))
              (if (f64.gt (local.get $z) (local.get $largest)) (then (local.set $largest (local.get $z)))))))
        (else
          (if (f64.eq (f64.sub (local.get $exact) (local.get $exact)) (f64.const 0))
            (then
              (i32.store (local.get $other) (local.get $first))
              (local.set $other (i32.add (local.get $other) (i32.const 4)))))))
      (local.set $first (i32.add (local.get $first) (i32.const 1)))
      (local.set $observed (i32.add (local.get $observed) (i32.const 8)))
      (local.set $expected (i32.add (local.get $expected) (i32.const 8)))
      (br_if $next (i32.lt_u (local.tee $value (i32.add (local.get $value) (i32.const 8))) (local.get $end))))
    (f64.store (local.get $sums) (local.get $squares))
    (f64.store offset=8 (local.get $sums) (local.get $largest))
    (f64.store offset=16 (local.get $sums)
      (f64.add (f64.load offset=16 (local.get $sums)) (f64.convert_i32_u (local.get $equal))))
    (i32.shr_u (i32.sub (local.get $other) (local.get $others)) (i32.const 2)))

  ;; Σ x² of the finite ones among 1 or more numbers, added to $sum.
  (func (export "sumSquares") (param $x i32) (param $count i32) (param $sum f64) (result f64)
    (local $end i32) (local $square f64)
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $count) (i32.const 3))))
    (loop $next
      (local.set $square (f64.load (local.get $x)))
      (if (f64.eq (f64.sub (local.get $square) (local.get $square)) (f64.const 0))
        (then (local.set $sum (f64.add (local.get $sum) (f64.mul (local.get $square) (local.get $square))))))
      (br_if $next (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 8))) (local.get $end))))
    (local.get $sum))

  ;; Residuals of one row of a product over blocks of $width columns, the last of those that are left, in units of what its
  ;; stores scatter by: z_b = |Σ s_c·(y_c − b_c) − expected_b| / √(Σ ulp_c² / 12). $signs are bytes; $biases 0 for none; an
  ;; ulp is as above, its square no less than $floor. NaN where the product itself is not finite says nothing: 0.
  (func (export "residuals")
    (param $y i32) (param $columns i32) (param $width i32) (param $signs i32) (param $biases i32) (param $expected i32)
    (param $least f64) (param $down i32) (param $floor f64) (param $z i32)
    (local $lastColumn i32) (local $end i32) (local $at i32) (local $sign i32) (local $step i64)
    (local $residual f64) (local $variance f64) (local $ulp f64) (local $one f64)
    (local.set $lastColumn (i32.add (local.get $y) (i32.shl (local.get $columns) (i32.const 3))))
    (local.set $step (i64.shl (i64.extend_i32_s (local.get $down)) (i64.const 52)))
    (loop $blocks
      (local.set $end (i32.add (local.get $y) (i32.shl (local.get $width) (i32.const 3))))
      (if (i32.gt_u (local.get $end) (local.get $lastColumn)) (then (local.set $end (local.get $lastColumn))))
      (local.set $residual (f64.neg (f64.load (local.get $expected))))
      (if (local.get $biases)
        (then
          (local.set $at (local.get $y))
          (local.set $sign (local.get $signs))
          (loop $next
            (local.set $residual (f64.sub (local.get $residual) (f64.mul
              (f64.convert_i32_s (i32.load8_s (local.get $sign))) (f64.load (local.get $biases)))))
            (local.set $biases (i32.add (local.get $biases) (i32.const 8)))
            (local.set $sign (i32.add (local.get $sign) (i32.const 1)))
            (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))))
      (local.set $variance (f64.const 0))
      (loop $next
        (local.set $one (f64.load (local.get $y)))
        (local.set $ulp (f64.reinterpret_i64 (i64.add (local.get $step) (i64.and (i64.const 0x7ff0000000000000)
          (i64.reinterpret_f64 (f64.max (f64.abs (local.get $one)) (local.get $least)))))))
        (local.set $variance (f64.add (local.get $variance)
          (f64.max (f64.mul (local.get $ulp) (local.get $ulp)) (local.get $floor))))
        (local.set $residual (f64.add (local.get $residual) (f64.mul
          (f64.convert_i32_s (i32.load8_s (local.get $signs))) (local.get $one))))
        (local.set $signs (i32.add (local.get $signs) (i32.const 1)))
        (br_if $next (i32.lt_u (local.tee $y (i32.add (local.get $y) (i32.const 8))) (local.get $end))))
      (f64.store (local.get $z)
        (if (result f64) (f64.eq (f64.sub (local.get $residual) (local.get $residual)) (f64.const 0))
          (then (if (result f64) (f64.eq (local.get $residual) (f64.const 0))
            (then (f64.const 0))
            (else (f64.div (f64.abs (local.get $residual)) (f64.sqrt (f64.div (local.get $variance) (f64.const 12)))))))
          (else (if (result f64)
            (f64.eq (f64.sub (f64.load (local.get $expected)) (f64.load (local.get $expected))) (f64.const 0))
            (then (f64.const inf))
            (else (f64.const 0))))))
      (local.set $expected (i32.add (local.get $expected) (i32.const 8)))
      (local.set $z (i32.add (local.get $z) (i32.const 8)))
      (br_if $blocks (i32.lt_u (local.get $y) (local.get $lastColumn)))))

  ;; $out[j] = $q · key j of 1 or more keys $stride bytes apart, over $count numbers, a multiple of 4: four sums side by
  ;; side, of every fourth term each.
  (func (export "dots")
    (param $q i32) (param $count i32) (param $key i32) (param $stride i32) (param $keys i32) (param $out i32)
    (local $at i32) (local $from i32) (local $next i32) (local $end i32) (local $last i32)
    (local $a v128) (local $b v128) (local $x v128) (local $y v128) (local $c v128) (local $d v128)
    (local.set $end (i32.add (local.get $q) (i32.shl (local.get $count) (i32.const 3))))
    (local.set $last (i32.add (local.get $out) (i32.shl (local.get $keys) (i32.const 3))))
    (loop $two
      ;; Two keys at a time; an odd last one twice.
      (local.set $from (local.get $key))
      (local.set $next (local.get $key))
      (if (i32.lt_u (i32.add (local.get $out) (i32.const 8)) (local.get $last))
        (then (local.set $next (i32.add (local.get $key) (local.get $stride)))))
      (local.set $key (i32.add (local.get $next) (local.get $stride)))
      (local.set $at (local.get $q))
      (local.set $a (v128.const i64x2 0 0))
      (local.set $b (v128.const i64x2 0 0))
      (local.set $c (v128.const i64x2 0 0))
      (local.set $d (v128.const i64x2 0 0))
      (loop $terms
        (local.set $x (v128.load (local.get $at)))
        (local.set $y (v128.load offset=16 (local.get $at)))
        (local.set $a (f64x2.add (local.get $a) (f64x2.mul (local.get $x) (v128.load (local.get $from)))))
        (local.set $b (f64x2.add (local.get $b) (f64x2.mul (local.get $y) (v128.load offset=16 (local.get $from)))))
        (local.set $c (f64x2.add (local.get $c) (f64x2.mul (local.get $x) (v128.load (local.get $next)))))
        (local.set $d (f64x2.add (local.get $d) (f64x2.mul (local.get $y) (v128.load offset=16 (local.get $next)))))
        (local.set $from (i32.add (local.get $from) (i32.const 32)))
        (local.set $next (i32.add (local.get $next) (i32.const 32)))
        (br_if $terms (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 32))) (local.get $end))))
      (f64.store (local.get $out) (f64.add
        (f64.add (f64x2.extract_lane 0 (local.get $a)) (f64x2.extract_lane 1 (local.get $a)))
        (f64.add (f64x2.extract_lane 0 (local.get $b)) (f64x2.extract_lane 1 (local.get $b)))))
      (if (i32.lt_u (i32.add (local.get $out) (i32.const 8)) (local.get $last))
        (then (f64.store offset=8 (local.get $out) (f64.add
          (f64.add (f64x2.extract_lane 0 (local.get $c)) (f64x2.extract_lane 1 (local.get $c)))
          (f64.add (f64x2.extract_lane 0 (local.get $d)) (f64x2.extract_lane 1 (local.get $d)))))))
      (br_if $two (i32.lt_u (local.tee $out (i32.add (local.get $out) (i32.const 16))) (local.get $last)))))

  ;; $out += Σ weight j · value j of 1 or more values $stride bytes apart, of $count numbers each, a multiple of 8. What has
  ;; the weight 0 is not multiplied with: it may be NaN.
  (func (export "addWeighted")
    (param $weights i32) (param $rows i32) (param $value i32) (param $stride i32) (param $count i32) (param $out i32)
    (local $end i32) (local $last i32) (local $at i32) (local $from i32) (local $weight v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $last (i32.add (local.get $out) (i32.shl (local.get $count) (i32.const 3))))
    (local.set $end (i32.add (local.get $weights) (i32.shl (local.get $rows) (i32.const 3))))
    (loop $eight
      (local.set $a (v128.load (local.get $out)))
      (local.set $b (v128.load offset=16 (local.get $out)))
      (local.set $c (v128.load offset=32 (local.get $out)))
      (local.set $d (v128.load offset=48 (local.get $out)))
      (local.set $at (local.get $weights))
      (local.set $from (local.get $value))
      (loop $next
        (if (f64.ne (f64.load (local.get $at)) (f64.const 0))
          (then
            (local.set $weight (v128.load64_splat (local.get $at)))
            (local.set $a (f64x2.add (local.get $a) (f64x2.mul (local.get $weight) (v128.load (local.get $from)))))
            (local.set $b (f64x2.add (local.get $b) (f64x2.mul (local.get $weight) (v128.load offset=16 (local.get $from)))))
            (local.set $c (f64x2.add (local.get $c) (f64x2.mul (local.get $weight) (v128.load offset=32 (local.get $from)))))
            (local.set $d (f64x2.add (local.get $d) (f64x2.mul (local.get $weight) (v128.load offset=48 (local.get $from)))))))
        (local.set $from (i32.add (local.get $from) (local.get $stride)))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
      (v128.store (local.get $out) (local.get $a))
      (v128.store offset=16 (local.get $out) (local.get $b))
      (v128.store offset=32 (local.get $out) (local.get $c))
      (v128.store offset=48 (local.get $out) (local.get $d))
      (local.set $value (i32.add (local.get $value) (i32.const 64)))
      (br_if $eight (i32.lt_u (local.tee $out (i32.add (local.get $out) (i32.const 64))) (local.get $last))))))
